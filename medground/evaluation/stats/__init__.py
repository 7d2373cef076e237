"""Scores and their bootstrap intervals."""
