"""Phrases, images and a model -> groundings. An image is encoded once for all its phrases.

Boxes are pixels of the original image.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medground import boxes
from medground.boxes import Letterbox
from medground.errors import MedgroundError
from medground.models import film
from medground.models.grounder import Grounder
from medground.records import Box, Grounding, Phrase, ScoredBox

MOST_TOGETHER = 256  # pairs fused at once: bounds memory when one image has very many phrases
# What a grounding takes over from its phrase, so that it can be grouped and scored without a join.
CARRIED = ("subject_id", "category", "split")


def phrases_of(image: Path, words: Iterable[str]) -> list[Phrase]:
    """A phrase record for each of the words, all on this one image."""
    path, name = str(image.absolute()), image.stem
    return [
        Phrase(image_id=name, phrase_id=f"{name}|{number}", path=path, text=text)
        for number, text in enumerate(words, start=1)
    ]


def ground_phrases(
    phrases: Iterable[Phrase],
    model: Grounder,
    folder: Path,
    bad_image: Callable[[Phrase, MedgroundError], None] | None = None,
) -> Iterator[tuple[Phrase, Grounding]]:
    """Yield each phrase with its grounding, in order; phrases stream, one image's worth at a time.

    An image that cannot be read ends the run, or is given to `bad_image` with each of its phrases.
    """
    for path, group in itertools.groupby(phrases, key=lambda phrase: phrase.path):
        together = list(group)
        try:
            shown = film.read(folder / path, model.config.image_size)
        except MedgroundError as problem:
            if bad_image is None:
                raise
            for phrase in together:
                bad_image(phrase, problem)
        else:
            yield from zip(together, ground_on_film(together, shown, model), strict=True)


@torch.inference_mode()
def ground_on_film(phrases: list[Phrase], shown: film.Film, model: Grounder) -> Iterator[Grounding]:
    """Yield a grounding for each of these phrases of one film; the film is encoded once."""
    network, device = model.network, model.device
    both = shown.picture()[None].to(device)
    patches, seen = network.encode_images(both[:, :1], both[:, 1:])  # type: ignore[operator]
    for first in range(0, len(phrases), MOST_TOGETHER):
        some = phrases[first : first + MOST_TOGETHER]
        ids, mask = (each.to(device) for each in model.tokenize([phrase.text for phrase in some]))
        tokens = network.encode_texts(ids, mask)  # type: ignore[operator]
        wide = (len(some), -1, -1)
        answers = network.fuse(patches.expand(*wide), seen.expand(*wide[:2]), tokens, mask)  # type: ignore[operator]
        found = shown.letterbox.restore(answers.boxes.double().cpu().numpy())
        present = answers.present.float().sigmoid().cpu().numpy()
        for phrase, box, belief in zip(some, found, present, strict=True):
            yield _grounding(phrase, box, float(belief), shown.letterbox, model.name)


def _grounding(
    phrase: Phrase, box: NDArray[np.float64], belief: float, letterbox: Letterbox, name: str
) -> Grounding:
    carried = {key: getattr(phrase, key) for key in CARRIED if getattr(phrase, key) is not None}
    score = round(belief, 4)
    return Grounding(
        image_id=phrase.image_id,
        phrase_id=phrase.phrase_id,
        text=phrase.text,
        boxes=[ScoredBox(box=inside(box, letterbox), score=score)],
        present=score,
        model=name,
        extra=carried | phrase.extra,
    )


def inside(box: NDArray[np.float64], letterbox: Letterbox) -> Box:
    """The box to 0.1 px, cut to the image; one that lies wholly in the padding becomes its nearest sliver."""
    width, height = letterbox.width, letterbox.height
    x1, y1, x2, y2 = (float(each) for each in box)
    x1, x2 = min(max(x1, 0.0), width - 0.1), max(min(x2, width), 0.1)
    y1, y2 = min(max(y1, 0.0), height - 0.1), max(min(y2, height), 0.1)
    return boxes.rounded((x1, y1, x2, y2))
