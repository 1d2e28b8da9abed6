"""Attributions of a whole data set."""
