"""Reports in, sentences with <region, finding, existence> triplets out."""
