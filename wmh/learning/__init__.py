"""Networks, from slices to predictions."""
