"""Simple methods a model must beat, one kind of data a file."""
