"""TODO handwriting."""
