"""The shared transformer: windows and alignment, the torch encoder, and its spaCy component."""
