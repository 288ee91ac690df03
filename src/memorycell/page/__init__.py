"""The page that `memorycell serve` shows: ES modules, styles and samples, served as they are."""
