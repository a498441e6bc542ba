"""Token classification: a tag a token, such as a part of speech or a place in a word."""
