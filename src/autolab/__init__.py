"""Autolab: an open-source AI research lab."""

__version__ = "0.1.0"
