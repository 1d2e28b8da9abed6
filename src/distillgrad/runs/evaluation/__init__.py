"""Methods measured on a whole data set."""
