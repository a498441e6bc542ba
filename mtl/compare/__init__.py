"""Comparisons of ways to train, over several seeds: what a choice gains or costs, with confidence intervals."""
