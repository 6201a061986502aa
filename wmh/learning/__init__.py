"""Learning: slices, networks, their training, and their predictions."""
