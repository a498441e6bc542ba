"""What a training run needs beside the model: optimizers, schedules, the log, saving, scores."""
