"""Segment a set of images and measure it against ground truth: published calls, demos, metrics and results page."""
