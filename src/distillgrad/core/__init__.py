"""The model as a scalar function of its input, and what its rows go through. Knows no method."""
