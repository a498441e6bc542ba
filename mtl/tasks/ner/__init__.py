"""Named entity recognition: BIO tags under a linear-chain CRF."""
