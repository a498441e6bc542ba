"""Continued pretraining: from an encoder and domain text to a plain Hugging Face folder."""
