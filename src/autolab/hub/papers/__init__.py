"""Papers: found, read by section, with what belongs to them; kept on a shelf."""
