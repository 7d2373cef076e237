"""A mask format: a line has a class and the corners of a rectangle, tab-separated."""

import numpy as np


def read(path, request):
    """Yield (class, mask, no scores) of each line."""
    width, height = request.image_size
    for line in path.read_text().splitlines():
        name, *corners = line.split("\t")
        x1, y1, x2, y2 = map(round, map(float, corners))
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = True
        yield name, mask, None
