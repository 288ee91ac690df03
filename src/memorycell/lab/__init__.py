"""The memory lab: the classic tasks that need a long memory, for every cell side by side; and the
article's own example.
"""
