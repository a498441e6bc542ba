"""One shared transformer, continued on your text, with several spaCy heads trained together on it."""

__version__ = "0.1.0"
