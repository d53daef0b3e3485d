"""A run as a whole: assembled from a config, trained, scored, written to its folder."""
