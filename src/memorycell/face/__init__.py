"""The Python face: `memorycell.train`, `memorycell.load` and what they return."""
