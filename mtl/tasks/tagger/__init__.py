"""Token classification: a tag for each token, such as its part of speech."""
