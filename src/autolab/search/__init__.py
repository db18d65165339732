"""Which program the next trial branches from."""
