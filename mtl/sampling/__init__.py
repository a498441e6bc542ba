"""Which examples a training run reads: how many of each task, and in which order."""
