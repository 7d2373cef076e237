"""A data set: tab-separated image_id, subject_id, path, width, height, text, x1, y1, x2, y2, split."""

from medground.datasets.sources import opened
from medground.records import Phrase


def read(source, take):
    """Yield a phrase per line."""
    with opened(source) as stream:
        for number, line in enumerate(stream):
            image, subject, path, width, height, text, *box, split = line.decode().rstrip("\n").split("\t")
            yield Phrase(
                image_id=image,
                phrase_id=f"{image}-{number}",
                subject_id=subject,
                path=path,
                width=int(width),
                height=int(height),
                text=text,
                boxes=[tuple(map(float, box))],
                split=split,
            )
