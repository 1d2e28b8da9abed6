"""The computations on one image: its explanation, its distillation, the stability of its maps."""
