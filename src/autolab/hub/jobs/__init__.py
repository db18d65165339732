"""Jobs: what they run on, what they cost, launched once, looked at, ended."""
