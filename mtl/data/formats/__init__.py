"""Readers of labelled files, one module for each format: from a path to `Record`s."""
