"""Phantoms: H&E-like images and slides with exact ground truth, drawn from a seed."""
