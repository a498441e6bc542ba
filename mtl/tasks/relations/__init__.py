"""Relations between tokens, learned from a teacher (`mtl_relations`)."""
