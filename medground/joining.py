"""Joining the outputs of the shards of one command into one file.

A line belongs to a key: the study of a sentence or pair, the image of an anatomy or of a written report, the
phrase of a grounding. All lines of one key are in one shard. They stay together and in order.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from medground.errors import MedgroundError


class Kind(NamedTuple):
    """A kind of line: the keys that mark it, its join key, and whether each input record has output."""

    marks: frozenset[str]
    key: str
    always: bool


KINDS = (
    Kind(frozenset({"phrase_id", "present"}), "phrase_id", always=True),  # groundings
    Kind(frozenset({"sentence_id"}), "study_id", always=False),  # sentences and pairs; a study may have none
    Kind(frozenset({"image_id", "regions"}), "image_id", always=True),  # anatomies
    Kind(frozenset({"image_id", "study_id", "text", "model"}), "image_id", always=True),  # reports of write
)
NOUNS = {"study_id": "studies", "image_id": "images", "phrase_id": "phrases"}


class Joined(NamedTuple):
    """The counts of a join: lines, keys (such as studies), shards, and keys of the input if it was given."""

    lines: int
    keys: int
    noun: str
    shards: int
    inputs: int | None = None

    def __str__(self) -> str:
        of = "" if self.inputs is None else f", of {self.inputs:,} in the input"
        return f"{self.lines:,} lines of {self.keys:,} {self.noun} from {self.shards} shards{of}"


class Lines:
    """The lines of a shard, one by one. `key` is the key of the next line, and None at the end."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.number = stream, 0
        self.kind: Kind | None = None
        self.line = b""
        self.take()

    def take(self) -> bytes:
        """Return the next line, and read the one after it."""
        line = self.line
        self.line = self.stream.readline()
        self.number += 1
        self.key = self._key() if self.line else None
        return line

    def take_all(self, key: str) -> Iterator[bytes]:
        """Yield the lines up to the first one with another key."""
        while self.key == key:
            yield self.take()

    def problem(self, words: str) -> MedgroundError:
        """Return an error that names the file and line."""
        return MedgroundError(f"{self.stream.name}:{self.number}: {words}")

    def _key(self) -> str:
        if not self.line.endswith(b"\n"):
            raise self.problem("incomplete line; did the shard finish?")
        try:
            record = orjson.loads(self.line)
        except orjson.JSONDecodeError:
            raise self.problem("not JSON") from None
        if not isinstance(record, dict):
            raise self.problem("expected an object")
        if self.kind is None:
            self.kind = next((each for each in KINDS if each.marks <= record.keys()), None)
            if self.kind is None:
                raise self.problem("expected a sentence, a pair, an anatomy, a grounding or a written report")
        key = record.get(self.kind.key)
        if not isinstance(key, str):
            raise self.problem(f"{self.kind.key}: expected text")
        return key


def check_names(paths: list[Path]) -> None:
    """Raise MedgroundError if a shard is given twice, or if one of 1-of-N to N-of-N is missing.

    Names without I-of-N are not checked for missing shards.
    """
    if len(set(paths)) < len(paths):
        raise MedgroundError("a shard is given twice")
    found = [re.search(r"(\d+)-of-(\d+)", path.name) for path in paths]
    if not all(found):
        return
    numbers, counts = ([int(each[n]) for each in found if each] for n in (1, 2))
    if len(set(counts)) > 1:
        raise MedgroundError(f"shards of {min(counts)} and of {max(counts)} cannot be joined")
    if missing := sorted(set(range(1, counts[0] + 1)) - set(numbers)):
        raise MedgroundError(f"shard {missing[0]} of {counts[0]} is missing ({len(missing)} missing in all)")
    if len(numbers) != counts[0]:
        raise MedgroundError("a shard is given twice")


def chain(out: BinaryIO, shards: list[Lines]) -> Joined:
    """Write the shards one after another and return the counts; raise MedgroundError if two share a key."""
    _kind(shards)
    home: dict[str, Lines] = {}
    count = 0
    for shard in shards:
        while shard.key is not None:
            if home.setdefault(shard.key, shard) is not shard:
                raise shard.problem(f"this study or image is also in {home[shard.key].stream.name}")
            out.write(shard.take())
            count += 1
    return Joined(count, len(home), _noun(shards), len(shards))


def merge(out: BinaryIO, shards: list[Lines], keys: Iterable[str], missing_ok: bool = False) -> Joined:
    """Write the lines in the order of the input's `keys`, and return the counts.

    This gives the bytes of a run without shards. Raises MedgroundError for a key of a shard that is not in
    `keys`, and, without `missing_ok`, for an image or phrase of `keys` that has no line.
    """
    kind = _kind(shards)
    heads = {shard.key: shard for shard in shards if shard.key is not None}
    lines = found = inputs = 0
    for key in _changes(keys):
        inputs += 1
        shard = heads.pop(key, None)
        if shard is not None:
            found += 1
            for line in shard.take_all(key):
                lines += 1
                out.write(line)
            if shard.key is not None and heads.setdefault(shard.key, shard) is not shard:
                raise shard.problem(f"this study or image is also in {heads[shard.key].stream.name}")
        elif kind and kind.always and not missing_ok:
            raise MedgroundError(
                f"study or image {inputs} of the input has no line; are the shards from the same input?"
            )
    for shard in shards:
        if shard.key is not None:
            raise shard.problem(
                "this study or image is not in the input, or at another place there, or twice in the shards"
            )
    return Joined(lines, found, _noun(shards), len(shards), inputs)


def key_name(shards: list[Lines]) -> str:
    """Return the join key of the shards' lines; `study_id` if no shard has a line."""
    kind = _kind(shards)
    return kind.key if kind else "study_id"


def keys_of_lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield the key `name` of each JSON line; an empty text for a line without it."""
    for line in stream:
        if not line.isspace():
            try:
                yield str(orjson.loads(line)[name])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                yield ""


def _kind(shards: list[Lines]) -> Kind | None:
    """Return the kind of all shards with a line; raise MedgroundError if it is not the same."""
    found = [shard for shard in shards if shard.kind]
    for each in found:
        if each.kind != found[0].kind:
            raise each.problem(f"another kind of record than in {found[0].stream.name}")
    return found[0].kind if found else None


def _noun(shards: list[Lines]) -> str:
    kind = _kind(shards)
    return NOUNS[kind.key] if kind else "records"


def _changes(keys: Iterable[str]) -> Iterator[str]:
    """Yield each key that differs from the one before it."""
    last = None
    for key in keys:
        if key != last:
            yield key
        last = key
