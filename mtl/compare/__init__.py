"""Several trainings side by side: what a choice gave or cost, with its interval."""
