"""How much of each task, and in which order."""
