"""TODO anomaly."""
