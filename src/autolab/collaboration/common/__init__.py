"""What several collaborations need: merging winners, reading plans, handing over, learning which choice pays."""
