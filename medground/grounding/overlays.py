"""Answers drawn over their images: one PNG for each phrase."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from medground import images
from medground.figures import draw
from medground.grounding import names
from medground.records import Grounding, Phrase


def draw_overlays(
    answers: Iterable[tuple[Phrase, Grounding]], folder: Path, out: Path
) -> Iterator[tuple[Phrase, Grounding]]:
    """Pass the answers through, and draw each over its image as OUT/NAME.png; `names.of_phrase` has NAME.

    A phrase's own boxes, where it has any, are drawn as the truth. Where a name comes again, be it but in
    capitals, NAME-2.png and so on stand beside it.
    """
    out.mkdir(parents=True, exist_ok=True)
    times = Counter[str]()
    for path, group in itertools.groupby(answers, key=lambda answer: answer[0].path):
        image = images.load(folder / path)
        for phrase, grounding in group:
            name = names.of_phrase(phrase.image_id, phrase.phrase_id)
            times[name.casefold()] += 1  # some disks do not tell capitals
            if (number := times[name.casefold()]) > 1:
                name = f"{name}-{number}"
            frame = (phrase.width, phrase.height) if phrase.width and phrase.height else None
            picture = draw.overlay(image, grounding.boxes, phrase.text, phrase.boxes or (), frame)
            picture.save(out / f"{name}.png")
            yield phrase, grounding
