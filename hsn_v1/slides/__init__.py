"""Images and whole slides of the user's own: segmented at any size, resumed where a run was killed."""
