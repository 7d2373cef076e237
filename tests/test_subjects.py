"""Digests of subjects: what a checkpoint says of whom it has seen."""

import hashlib
from dataclasses import dataclass

from medground import subjects


@dataclass
class Seen:
    image_id: str
    subject_id: str | None = None


def test_a_digest_is_the_start_of_the_sha256_of_the_id():
    assert subjects.digest_of("p10000032") == hashlib.sha256(b"p10000032").hexdigest()[:16]


def test_each_subject_and_each_image_counts_once():
    records = [Seen("i1", "s1"), Seen("i2", "s1"), Seen("i3"), Seen("i3"), Seen("i4", "")]
    assert subjects.digests_of(records) == sorted(map(subjects.digest_of, ("s1", "i1", "i2", "i3", "i4")))
    assert subjects.digests_of(reversed(records)) == subjects.digests_of(records)
    assert subjects.digests_of([]) == []


def test_the_overlap_is_sorted_and_holds_each_once():
    assert subjects.overlap(["c", "a", "b", "a"], ["a", "c", "d"]) == ["a", "c"]
    assert subjects.overlap([], ["a"]) == []
