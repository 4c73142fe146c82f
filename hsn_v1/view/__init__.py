"""View results in the browser: a local server shows segmented slides, and scores them against annotations."""
