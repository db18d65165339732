"""The course of a trial from its first measurement to its verdict, and what a person may ask for afterwards."""
