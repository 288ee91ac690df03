"""Inspect the recurrent layers of any PyTorch model: numbers, figures and a self-contained page."""
