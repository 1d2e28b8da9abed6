"""The examination of a model at its first use: what every map takes for granted, tried on a row or two."""
