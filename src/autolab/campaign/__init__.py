"""The loop, its lock, and measurements outside of it."""
