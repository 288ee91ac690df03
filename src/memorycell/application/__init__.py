"""TODO application."""
