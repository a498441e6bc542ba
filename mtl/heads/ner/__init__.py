"""Entity tagger: BIO tags under a linear-chain CRF."""
