"""The phrase of the truth that a prediction belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath

from medground.errors import BadRecord
from medground.evaluation.inputs.readers import Answer
from medground.records import Phrase


@lru_cache(maxsize=100_000)
def names_of(path: str) -> tuple[str, ...]:
    """Return the names by which other tools call an image: its path, with and without folder and suffix."""
    pure = PurePath(path)
    return tuple(
        dict.fromkeys((path, str(pure.with_suffix("")) if pure.name else path, pure.name, pure.stem))
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


@dataclass
class Phrases:
    """The phrases of a truth by what predictions have; `unnamed` counts those whose finding fits none."""

    by_key: dict[tuple[str | None, str | None], list[Phrase]] = field(default_factory=dict)
    by_name: dict[str, str | None] = field(default_factory=dict)  # image_id of a name, None if several
    labels: set[str] = field(default_factory=set)
    listed: Mapping[str, str] = field(default_factory=dict)  # file name of an image's number
    unnamed: int = 0

    @classmethod
    def of(cls, phrases: Iterable[Phrase], listed: Mapping[str, str] | None = None) -> "Phrases":
        """Return the phrases by (image, phrase), by (None, phrase) and by (image, None)."""
        found = cls(listed=listed or {})
        for each in phrases:
            for key in ((each.image_id, each.phrase_id), (None, each.phrase_id), (each.image_id, None)):
                found.by_key.setdefault(key, []).append(each)
            for name in names_of(each.path):
                known = found.by_name.setdefault(name, each.image_id)
                if known != each.image_id:
                    found.by_name[name] = None
            found.labels |= _labels(each)
        return found

    def find(self, answer: Answer) -> Phrase | None:
        """Return the phrase of a prediction; None, counted, if its image has no phrase of its finding.

        Raises BadRecord if there is no phrase or more than one.
        """
        image, phrase_id = self._image(answer.image_id), answer.phrase_id
        if answer.loose and (image, phrase_id) not in self.by_key:
            image, phrase_id = image or self._image(phrase_id), None
        phrases: Sequence[Phrase] = self.by_key.get((image, phrase_id), ())
        if phrases and phrase_id is None and answer.label:
            phrases = self._named(phrases, _plain(answer.label), answer.match)
            if not phrases:
                self.unnamed += 1
                return None
        if len(phrases) == 1:
            return phrases[0]
        where = " on this image" if None not in (answer.image_id, phrase_id) else ""
        problem = "more than one phrase of the truth" if phrases else f"the truth has no such phrase{where}"
        raise BadRecord(problem, "phrase_id" if phrase_id is not None else "image_id")

    def _named(self, phrases: Sequence[Phrase], label: str, match: str) -> Sequence[Phrase]:
        """Return the phrases of an image that a label may mean."""
        same = [each for each in phrases if label in _labels(each)]
        if same or match == "same" or (match == "any" and label in self.labels):
            return same
        near = [each for each in phrases if (text := _plain(each.text)) and (text in label or label in text)]
        longest = max((len(each.text) for each in near), default=0)
        near = [each for each in near if len(each.text) == longest]
        return near if len(near) == 1 or match == "inside" else phrases

    def _image(self, name: str | None) -> str | None:
        """Return the image_id of the image with this id, path or file name; the name if there is none."""
        if name is None or (name, None) in self.by_key:
            return name
        name = self.listed.get(name, name)
        return next((self.by_name[each] for each in names_of(name) if self.by_name.get(each)), name)


def _labels(phrase: Phrase) -> set[str]:
    return {_plain(each) for each in (phrase.text, phrase.category) if each}
