"""The patient and the size of each image, as records state them: two of them for one image are refused.

With another patient, images would be drawn wrongly in intervals and leaks would be missed. With another size,
boxes are in other pixels. Reports are compared by study. Numbers and texts of one ID are equal, with or
without MIMIC's "p" in front. What a record does not state is not compared.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from medground.errors import BadRecord
from medground.evaluation.sources import stated
from medground.leakage import bare

T = TypeVar("T")
PATIENT, SIZE = ("subject_id",), ("width", "height")
EARLIER = {
    "subject_id": "another patient than in an earlier line of this image or study",
    "width": "another size than in an earlier line of this image",
    "height": "another size than in an earlier line of this image",
}
IN_TRUTH = {
    "subject_id": "the truth has this image or study of another patient",
    "width": "the truth has this image in another size: are the boxes in its pixels?",
    "height": "the truth has this image in another size: are the boxes in its pixels?",
}


@dataclass
class ImageFacts:
    """The patient and size of each image in a truth, and in the records that were checked since."""

    truth: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, truth: Iterable[Any]) -> "ImageFacts":
        """Return the facts of the records of a truth."""
        found: dict[str, dict[str, Any]] = {}
        for each in truth:
            for name, value in _facts(each):
                found.setdefault(_key(each), {}).setdefault(name, value)
        return cls(found)

    def check(self, image: str, facts: Iterable[tuple[str, Any]]) -> None:
        """Raise BadRecord if the truth or an earlier record has another patient or size of this image."""
        true, earlier = self.truth.get(image, {}), self.earlier.setdefault(image, {})
        for name, value in facts:
            if true.get(name, value) != value:
                raise BadRecord(IN_TRUTH[name], name)
            if earlier.setdefault(name, value) != value:
                raise BadRecord(EARLIER[name], name)


def agreeing(check: Callable[[T], None], truth: Iterable[Any] = ()) -> Callable[[T], None]:
    """Return `check` with that of `ImageFacts` after it."""
    facts = ImageFacts.of(truth)

    def both(record: T) -> None:
        check(record)
        facts.check(_key(record), _facts(record))

    return both


def facts_in(given: Mapping[str, Any], sized: bool = True) -> list[tuple[str, Any]]:
    """Return the facts in the keys of a file; without `sized` only the patient."""
    names = PATIENT + SIZE if sized else PATIENT
    return [(name, known) for name in names if (known := _comparable(name, given.get(name))) is not None]


def _facts(record: Any) -> list[tuple[str, Any]]:
    return facts_in({name: stated(record, name) for name in PATIENT + SIZE})


def _key(record: Any) -> str:
    return str(getattr(record, "image_id", None) or record.study_id)


def _comparable(name: str, value: Any) -> str | float | None:
    """Return the value as it is compared; None if nothing is stated."""
    if isinstance(value, bool):
        return None
    if name in PATIENT:
        return bare(str(value)) or None if isinstance(value, str | int) else None
    return value if isinstance(value, int | float) else None
