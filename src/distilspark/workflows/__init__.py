"""The story of each command; only here are the packages tied together."""
