"""What work leaves on disk."""
