"""Input and output: images, masks, models and tables; safe opening, locking and writing of files."""
