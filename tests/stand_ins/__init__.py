"""Programs that stand in for services outside the machine, so that tests and benchmarks run without them."""
