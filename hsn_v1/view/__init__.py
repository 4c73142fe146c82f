"""Results in the browser: a local server that shows what was segmented, and scores it against annotations."""
