"""Finished and unfinished runs, opened to be looked at."""
