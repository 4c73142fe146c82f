"""Slides and images of any size: opened, read by region, and their label maps and outlines."""
