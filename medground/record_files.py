"""Records in JSON lines files, and as lists of dicts for tables of pandas or datasets."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from medground import jsonl, output_files
from medground.errors import MedgroundError
from medground.record_json import known_keys, to_json
from medground.records import (
    Anatomy,
    Answer,
    Classification,
    Grounding,
    Image,
    Label,
    Mask,
    Pair,
    Phrase,
    Question,
    Report,
    Score,
    Sentence,
)

Record = TypeVar("Record")
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Report, Sentence, Image, Anatomy, Pair, Phrase, Grounding, Score),
        *(Label, Classification, Mask, Question, Answer),
    )
}


def read(path: str | Path, kind: type[Record] | str | None = None) -> list[Record]:
    """Return the records of a JSON lines file, in order; unknown keys are kept in `extra`.

    path: the file.
    kind: a record class such as `medground.Phrase`, or its name; None infers it from the first line's keys.

    Raises MedgroundError, with file, line and key, for an invalid line, and if the kind cannot be inferred.
    """
    with open(path, "rb") as stream:
        chosen = _kind_of_file(path) if kind is None else kind_of(kind)
        return list(jsonl.read(stream, chosen, jsonl.BadLines()))


def write(path: str | Path, records: Iterable[Any]) -> int:
    """Write one JSON line per record and return the number of records.

    The file appears only when it is complete; an earlier file is kept if writing fails.
    """
    with output_files.create(str(path)) as stream:
        return jsonl.write(stream, records)


def rows(records: Iterable[Any]) -> list[dict[str, Any]]:
    """Return one dict per record, all with the same keys, for `pandas.DataFrame` or `Dataset.from_list`.

    A key that a record lacks is None. Nested records, such as boxes with scores, are dicts.
    """
    lines = [_all_keys(each) for each in records]
    keys = dict.fromkeys(key for line in lines for key in line)
    return [{key: line.get(key) for key in keys} for line in lines]


def _all_keys(record: Any) -> dict[str, Any]:
    own = {each.name: getattr(record, each.name) for each in fields(record) if each.name != "extra"}
    return own | to_json(record)


def records_from(rows: Iterable[Mapping[str, Any]], kind: type[Record] | str) -> list[Record]:
    """Return the records of dicts as `rows` makes them, also after a table of pandas or datasets.

    rows: for example `frame.to_dict("records")`, or a `datasets.Dataset`.
    kind: a record class or its name.

    None and NaN count as a missing key, unless the key is required. Raises MedgroundError with the row's
    number for a row that is not such a record.
    """
    chosen = kind_of(kind)
    required = {each.name for each in fields(chosen) if _is_required(each)}
    made = []
    for number, row in enumerate(rows):
        values = {key: _plain(each) for key, each in row.items()}
        values = {key: each for key, each in values.items() if each is not None or key in required}
        try:
            made.append(jsonl.record_of(values | _whole_numbers(values, chosen), chosen))
        except MedgroundError as error:
            raise MedgroundError(f"row {number}: {error}") from None
    return made


def _whole_numbers(values: Mapping[str, Any], kind: type) -> dict[str, int]:
    """Return the values of integer keys that a table has turned into whole floats."""
    hints = get_type_hints(kind)
    integers = [key for key in values if hints.get(key) in (int, int | None)]
    return {
        key: int(values[key]) for key in integers if isinstance(values[key], float) and values[key] % 1 == 0
    }


def kind_of(kind: Any) -> Any:
    """Return the record class of a class or its name; raises MedgroundError for anything else."""
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    if kind in KINDS.values():
        return kind
    raise MedgroundError(f"kind {kind!r} is not a record class; expected one of {', '.join(KINDS)}")


def _kind_of_file(path: str | Path) -> type:
    with open(path, "rb") as stream:
        line = next((each for each in stream if not each.isspace()), b"{}")
    try:
        keys = set(json.loads(line.removeprefix(b"\xef\xbb\xbf")))
    except (ValueError, TypeError):
        raise MedgroundError(f"{path}:1: expected a JSON object on each line") from None
    if kind := infer_kind(keys):
        return kind
    raise MedgroundError(
        f"{path}: the keys of the first line fit no record; name the kind, for example "
        f'read(path, "Phrase"); expected one of {", ".join(KINDS)}'
    )


def infer_kind(keys: Iterable[str]) -> type | None:
    """Return the record class whose required keys are all there; of several, the one with the most."""
    there = set(keys)
    fitting = [kind for kind in KINDS.values() if _required(kind) <= there]
    fitting = [kind for kind in fitting if kind is not Report or there & REPORT_TEXT]
    return max(fitting, key=lambda kind: len(_required(kind)), default=None)


REPORT_TEXT = known_keys(Report) - {"study_id", "subject_id"}


def _required(kind: type) -> set[str]:
    return {each.name for each in fields(kind) if _is_required(each)}


def _is_required(each: Any) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _plain(value: Any) -> Any:
    """Return the value without types of numpy; NaN becomes None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
