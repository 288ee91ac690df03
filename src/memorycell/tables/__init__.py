"""Reading tables, rows and time stamps."""
