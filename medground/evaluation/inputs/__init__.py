"""Readers of predictions and truth: the only part of evaluation that reads files."""
