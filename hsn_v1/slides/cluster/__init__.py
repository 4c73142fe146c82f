"""Segment many slides on the workers of a Dask cluster."""
