"""An equivalent, faster model, checked against the original."""
