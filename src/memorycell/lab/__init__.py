"""The memory lab: classic long-lag problems for every cell, and the article's example story."""
