"""From disk to arrays and back: images, ground truth, slides, models, label maps and polygons."""
