"""The shared transformer: its spaCy component, and below it the encoder, ways to run it, and pretrained checkpoints."""
