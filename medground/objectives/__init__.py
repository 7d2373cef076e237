"""Training objectives: one module per paper, each with named losses."""
