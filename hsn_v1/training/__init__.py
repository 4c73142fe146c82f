"""Training a classifier from patch labels alone, and tuning the CRF for it."""
