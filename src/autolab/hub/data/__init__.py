"""Prepared data, shared under the hash of its content."""
