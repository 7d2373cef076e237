"""What training asks of a network: each paper one module, with a dictionary of named losses."""
