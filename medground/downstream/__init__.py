"""Downstream tasks of trained encoders: features, probes and heads."""
