"""The explorer: explanations in the browser."""
