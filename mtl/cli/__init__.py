"""The command line: the console script `mtl`, and error messages for `spacy`."""
