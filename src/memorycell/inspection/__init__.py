"""Looking at models: figures, and the pages they stand on."""
