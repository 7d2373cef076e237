"""Who a model has seen: patients as digests, so that a checkpoint can say whom it was trained on.

A digest is the first 16 hexadecimal digits of the SHA-256 of an id: short, and the same on every machine. It
keeps ids out of a file at a glance and is no protection: whoever has a list of ids can find them again.
A record stands for its subject and for its image: other records of the image may not say whose it is.
Everything here is sorted: same records, same digests.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol

DIGITS = 16


class Imaged(Protocol):
    """Any record of an image of somebody: Phrase, Pair, Anatomy, Grounding with its keys."""

    @property
    def subject_id(self) -> str | None:
        """Whose image it is, where that is known."""

    @property
    def image_id(self) -> str:
        """Which image it is."""


def digest_of(subject_id: str) -> str:
    """16 hexadecimal digits that stand for this subject, or for this image."""
    return hashlib.sha256(subject_id.encode()).hexdigest()[:DIGITS]


def digests_of(records: Iterable[Imaged]) -> list[str]:
    """The digests of the records' subjects and images, each once, sorted."""
    names = {name for each in records for name in (each.subject_id, each.image_id) if name}
    return sorted(map(digest_of, names))


def overlap(some: Iterable[str], others: Iterable[str]) -> list[str]:
    """What is in both, each once, sorted; [] where nothing is."""
    return sorted(set(some) & set(others))
