"""Slides and images of any size: opening, reading by region, label maps and outlines."""
