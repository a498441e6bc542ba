"""The grammar of the synthetic corpus: lexicons, sentence frames, and how documents and questions are made of them."""
