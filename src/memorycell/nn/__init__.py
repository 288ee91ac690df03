"""Layers made of recurrences."""
