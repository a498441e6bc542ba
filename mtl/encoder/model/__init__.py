"""The encoder as a torch module: texts with token offsets in, one vector for each token out. No spaCy."""
