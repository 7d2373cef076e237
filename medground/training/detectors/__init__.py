"""Training of anatomy detectors."""
