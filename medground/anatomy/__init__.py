"""Images to boxes of named regions: the table of names, the detectors, their training."""
