"""Where a program is run and measured: a bundle goes in, one measurement comes out."""
