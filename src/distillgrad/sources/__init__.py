"""The places that models and images come from."""
