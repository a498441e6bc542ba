"""Question answering: the span of a Doc that answers a question, or none."""
