"""One folder for each task: what the task is, a torch module, and the component that trains it and predicts with it."""
