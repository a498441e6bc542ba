"""Files people have, as spaCy Docs, and checks of both."""
