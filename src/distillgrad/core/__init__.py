"""What a model is to us: a scalar function of its input. Knows no method."""
