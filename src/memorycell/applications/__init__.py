"""TODO applications."""
