"""Text categorizer: exclusive or multilabel categories from the mean of the token vectors."""
