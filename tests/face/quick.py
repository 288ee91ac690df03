"""Settings of a model that trains in a second."""

QUICK = {"epochs": 2, "hidden": 6, "progress": False}
