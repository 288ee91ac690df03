"""The applications, one package each; they do not import each other."""
