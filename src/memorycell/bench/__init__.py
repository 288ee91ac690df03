"""Speed of `memorycell bench`, compared with other libraries."""
