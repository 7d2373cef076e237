"""Overlays: predicted boxes on their images, one PNG per phrase."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from medground import images, output_files
from medground.figures import draw
from medground.grounding import names
from medground.records import Grounding, Phrase


def draw_overlays(
    answers: Iterable[tuple[Phrase, Grounding]], folder: Path, out: Path
) -> Iterator[tuple[Phrase, Grounding]]:
    """Pass the groundings through, and write each as an overlay OUT/NAME.png (NAME: `names.of_phrase`).

    The phrase's own boxes, if any, are drawn as the truth. If a name occurs again, ignoring case, the file is
    NAME-2.png and so on.
    """
    out.mkdir(parents=True, exist_ok=True)
    times = Counter[str]()
    for path, group in itertools.groupby(answers, key=lambda answer: answer[0].path):
        image = images.load(folder / path)
        for phrase, grounding in group:
            name = names.of_phrase(phrase.image_id, phrase.phrase_id)
            times[name.casefold()] += 1  # some file systems ignore case
            if (number := times[name.casefold()]) > 1:
                name = f"{name}-{number}"
            frame = (phrase.width, phrase.height) if phrase.width and phrase.height else None
            picture = draw.overlay(image, grounding.boxes, phrase.text, phrase.boxes or (), frame)
            with output_files.replacing(out / f"{name}.png", sync=False) as stream:
                picture.save(stream, format="PNG")
            yield phrase, grounding
