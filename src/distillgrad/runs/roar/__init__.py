"""Remove and retrain."""
