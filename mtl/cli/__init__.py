"""The console script `mtl`."""
