"""Training of the detectors of regions, on the same loop as the grounder."""
