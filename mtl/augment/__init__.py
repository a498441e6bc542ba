"""Training documents, changed so that what they are annotated with still holds: spaCy augmenters."""
