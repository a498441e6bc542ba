"""How much each task moves the shared encoder."""
