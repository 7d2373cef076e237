"""An HTML page: each image with its phrases, and boxes to switch on and off.

It shows images and text of reports, so the same data use agreement applies to it.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from medground import images, output_files
from medground.figures import draw, pages
from medground.grounding import stated
from medground.records import Box, Grounding, Phrase

log = logging.getLogger(__name__)
LONGEST = 1024  # long side of an image on the page
MOST_IMAGES = 200  # about 100 kB each: browsers are slow with more


@dataclass(frozen=True, slots=True)
class Row:
    """One phrase of an image: `colour` is the color of its boxes, `truth` the annotated boxes."""

    number: int
    text: str
    existence: str
    note: str
    present: float
    colour: str
    found: list[tuple[Box, float]]
    truth: list[Box]


@dataclass(frozen=True, slots=True)
class Card:
    """One image with its phrases; boxes are in pixels of width x height, regardless of the file's size."""

    image_id: str
    source: str
    width: int
    height: int
    rows: list[Row] = field(default_factory=list)

    @property
    def stroke(self) -> float:
        """The height of letters over the image, in image pixels."""
        return round(max(self.width, self.height) / 42, 1)


def write(
    answers: Iterable[tuple[Phrase, Grounding]], folder: Path, path: Path
) -> Iterator[tuple[Phrase, Grounding]]:
    """Pass the groundings through, then write the page of the first `MOST_IMAGES` images."""
    cards: list[Card] = []
    said: dict[str, object] = {}
    left_out = 0
    for _, group in itertools.groupby(answers, key=lambda answer: _image(answer[0])):
        first = next(group)
        card = None if len(cards) >= MOST_IMAGES else _card(first[0], folder)
        left_out += card is None
        for phrase, found in itertools.chain([first], group):
            if card is not None:
                if not card.rows:
                    cards.append(card)
                card.rows.append(_row(len(card.rows), phrase, found))
                said.setdefault("model", found.model)
                said |= {key: found.extra[key] for key in ("calibrated", "coverage") if key in found.extra}
            yield phrase, found
    if left_out:
        log.warning("%s: shows the first %d images, %d more are left out", path, MOST_IMAGES, left_out)
    with output_files.create(str(path)) as stream:
        facts = {"model": "", "coverage": None} | said | {"calibrated": stated.described(said)}
        stream.write(pages.render("medground.grounding", "page.html", cards=cards, facts=facts))


def _image(phrase: Phrase) -> tuple[object, ...]:
    return phrase.path, phrase.image_id, phrase.width, phrase.height


def _card(phrase: Phrase, folder: Path) -> Card:
    pixels = images.load(folder / phrase.path)
    height, width = pixels.shape
    grey = Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))
    grey.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return Card(phrase.image_id, pages.embedded(grey), phrase.width or width, phrase.height or height)


def _row(number: int, phrase: Phrase, found: Grounding) -> Row:
    words = [found.extra.get(key) for key in ("finding", "category", "section")]
    return Row(
        number=number,
        text=phrase.text,
        existence=str(found.extra.get("existence") or ""),
        note=" · ".join(str(each) for each in words if each),
        present=found.present,
        colour=draw.FOUND[number % len(draw.FOUND)],
        found=[(each.box, each.score) for each in found.boxes],
        truth=list(phrase.boxes or []),
    )
