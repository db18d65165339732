"""Measurements of a millisecond: candidates and evaluations are forked from processes that are warm already."""
