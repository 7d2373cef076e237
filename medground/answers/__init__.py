"""Text of vision-language models with boxes in it, and what their numbers are measured in.

`texts` has a pure function for each model, from text to boxes. `frames` converts boxes to original pixels.
"""
