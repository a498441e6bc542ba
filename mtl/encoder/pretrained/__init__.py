"""Pretrained checkpoints: where they come from, and what differs between architectures. No spaCy."""
