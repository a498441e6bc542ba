"""What is wrong with labelled data, found before anything is trained on it."""
