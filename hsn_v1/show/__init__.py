"""Figures, charts, contact sheets and HTML pages of results."""
