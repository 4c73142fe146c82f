"""A run over a set of images with ground truth: the published calls, the demos, their metrics and results page."""
