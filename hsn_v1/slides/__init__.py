"""Segment the user's own images and whole slides, of any size; a killed run is resumed."""
