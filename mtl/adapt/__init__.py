"""Continued pretraining: domain text and an encoder in, a plain Hugging Face folder out."""
