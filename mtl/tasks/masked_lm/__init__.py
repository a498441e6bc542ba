"""Masked language modelling: an auxiliary task on the documents' own text. It predicts nothing for a Doc."""
