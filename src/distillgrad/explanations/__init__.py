"""What is computed for one image: its explanation, its distillation, how stable its maps are."""
