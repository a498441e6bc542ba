"""spaCy augmenters: training documents are changed so that all annotation on them is still valid."""
