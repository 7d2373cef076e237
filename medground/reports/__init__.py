"""Parsing of reports into sentences with <region, finding, existence> triplets."""
