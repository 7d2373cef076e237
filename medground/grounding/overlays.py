"""Answers drawn over their images: one PNG for each phrase."""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from medground import draw, images
from medground.records import Grounding, Phrase


def draw_overlays(
    answers: Iterable[tuple[Phrase, Grounding]], folder: Path, out: Path
) -> Iterator[tuple[Phrase, Grounding]]:
    """Pass the answers through, and draw each over its image as OUT/<phrase_id>.png.

    A phrase's own boxes, where it has any, are drawn as the truth.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path, group in itertools.groupby(answers, key=lambda answer: answer[0].path):
        image = images.load(folder / path)
        for phrase, grounding in group:
            name = re.sub(r"[^\w.-]+", "_", phrase.phrase_id)  # ids may hold what file names may not
            frame = (phrase.width, phrase.height) if phrase.width and phrase.height else None
            picture = draw.overlay(image, grounding.boxes, phrase.text, phrase.boxes or (), frame)
            picture.save(out / f"{name}.png")
            yield phrase, grounding
