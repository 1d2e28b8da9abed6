"""Runs over whole data sets, which leave their work on disk and go on where they ended."""
