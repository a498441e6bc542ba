"""A task of another package: the mood of a document, happy or sad."""
