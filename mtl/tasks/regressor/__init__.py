"""Document regression: a number for each document from the mean of the token vectors."""
