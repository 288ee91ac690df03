"""What an application is: its contract, the catalogue, model files and named datasets."""
