"""Groundings and truth in, scores out: metrics, protocols, the image-free prior, intervals, pictures."""
