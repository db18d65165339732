"""Results that others can read and merge."""
