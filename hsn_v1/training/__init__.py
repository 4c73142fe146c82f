"""Training of a classifier on patch labels alone, and tuning of its thresholds and CRF."""
