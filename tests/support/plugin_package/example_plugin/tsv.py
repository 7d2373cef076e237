"""Boxes as tab-separated lines: image_id, phrase_id, x1, y1, x2, y2, score."""

from medground.errors import BadRecord
from medground.evaluation.inputs.readers import Answer


def write(stream, groundings):
    """Write one line per box."""
    for _, found in groundings:
        for each in found.boxes:
            row = (found.image_id, found.phrase_id, *each.box, each.score)
            stream.write(("\t".join(map(str, row)) + "\n").encode())


def read(stream, bad_lines, take):
    """Give each line to `take`."""
    for line in stream:
        image_id, phrase_id, *numbers = line.decode().rstrip("\n").split("\t")
        *box, score = map(float, numbers)
        try:
            take(Answer(image_id, phrase_id, [(tuple(box), score)]))
        except BadRecord as bad:
            bad_lines.take(line, bad)
