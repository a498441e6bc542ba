"""Training on a spaCy config: loop, checkpoints, optimizers, loggers, evaluation; single heads and students of a pipeline."""
