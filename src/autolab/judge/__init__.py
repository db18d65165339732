"""Who becomes master, and on what evidence."""
