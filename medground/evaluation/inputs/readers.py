"""Readers of prediction files. They pass on phrases or boxes one by one, in the frame of the file.

jsonl  Grounding records, as `medground ground` writes them; a box without area is allowed
csv    one row per box: phrase_id, x1, y1, x2, y2 (or x, y, w, h), and optionally image_id, score, model
       and coverage; a row without numbers is a phrase without a box
coco   a JSON list of results: bbox [x, y, w, h], score, and phrase_id, or image_id if the image has one
       phrase; or the object that `medground ground --output-format coco` writes

A reader passes each prediction to `take`, which may refuse it with BadRecord. So `--rejects` works for all
formats.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from medground import jsonl, limits, spreadsheet, strict_json
from medground.errors import BadRecord, MedgroundError, sift
from medground.evaluation.inputs import files
from medground.records import Box

CORNERS, SIZES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a file for one phrase; `image_id` or `phrase_id` may be missing.

    whole: it is complete, so a second one for the phrase is an error. ours: from a Grounding record, whose
    scores are in [0, 1]. `said`: `text`, `present` and `model`, if given, and keys to pass through.
    """

    image_id: str | None
    phrase_id: str | None
    boxes: list[tuple[Box, float]]
    whole: bool = False
    ours: bool = False
    said: dict[str, Any] = field(default_factory=dict)


Take = Callable[[Answer], None]
Row = tuple[str, bytes, Callable[[], Answer]]  # place, original bytes, and the function that parses them


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyBox:
    """A ScoredBox that may be invalid, for example without area."""

    box: Box
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A Grounding whose boxes are not checked yet."""

    image_id: str
    phrase_id: str
    text: str
    boxes: list[AnyBox]
    present: float
    model: str
    extra: dict[str, Any] = field(default_factory=dict)


def read_jsonl(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each record with all its keys."""

    def check(line: Line) -> None:
        boxes = [(each.box, each.score) for each in line.boxes]
        said = line.extra | {"text": line.text, "present": line.present, "model": line.model}
        take(Answer(line.image_id, line.phrase_id, boxes, whole=True, ours=True, said=said))

    for _ in jsonl.read(stream, Line, bad_lines, check):  # type: ignore[arg-type]
        pass


def read_csv(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each row."""
    try:
        text = limits.joined(stream, stream.name).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedgroundError(f"{stream.name}: not UTF-8; convert it with iconv") from None
    _hand_on(_rows(text, stream.name), bad_lines, take, stream.name)


def _hand_on(rows: Iterable[Row], bad_lines: jsonl.BadLines, take: Take, source: str) -> None:
    def reject(row: Row, bad: BadRecord) -> None:
        place, content, _ = row
        bad.place = f"{place}: "
        bad_lines.take(content, bad)

    for _ in sift(rows, lambda row: take(row[2]()), reject, source):
        pass  # each is passed to `take`


def _rows(text: str, source: str) -> Iterator[Row]:
    held: list[str] = []  # the original lines of one row
    table = csv.DictReader(_noting(io.StringIO(text, newline=""), held))
    try:
        columns = set(table.fieldnames or ())
        if len(columns) < len(table.fieldnames or ()):
            raise MedgroundError(f"{source}: two columns have the same name")
        names = next((each for each in (CORNERS, SIZES) if columns.issuperset(each)), None)
        if names is None or "phrase_id" not in columns:
            raise MedgroundError(f"{source}: needs the columns phrase_id and x1, y1, x2, y2 (or x, y, w, h)")
        held.clear()
        for row in table:
            yield f"{source}:{table.line_num}", "".join(held).encode(), partial(_of_row, row, names)
            held.clear()
    except csv.Error:
        raise MedgroundError(f"{source}:{table.line_num + 1}: not CSV") from None


def _noting(lines: Iterable[str], held: list[str]) -> Iterator[str]:
    for line in lines:
        held.append(line)
        yield line


def _of_row(row: dict[str, str | None], names: Sequence[str]) -> Answer:
    if None in row or None in row.values():  # of csv.DictReader, for a long and for a short row
        raise BadRecord("expected as many cells as in the header")
    said: dict[str, Any] = {"model": spreadsheet.plain(row.get("model") or "")}
    if row.get("coverage"):
        said["coverage"] = _number(row["coverage"], "coverage")
    found = []
    if any(row[name] for name in names):
        numbers = [_number(row[name], name) for name in names]
        box = _corners(numbers) if names == SIZES else (numbers[0], numbers[1], numbers[2], numbers[3])
        found.append((box, _number(row["score"], "score") if row.get("score") else 1.0))
    image, phrase = (spreadsheet.plain(row.get(name) or "") for name in ("image_id", "phrase_id"))
    return Answer(image or None, phrase, found, said=said)


def _number(text: str | None, name: str) -> float:
    try:
        return float((text or "").replace("_", "x"))  # Python's own notation is no number of a table
    except ValueError:
        raise BadRecord("expected a number", name) from None


def _corners(numbers: Sequence[float]) -> Box:
    x, y, width, height = numbers
    return x, y, x + width, y + height


def read_coco(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each result."""
    try:
        results = strict_json.parse_loose(limits.joined(stream, stream.name))
    except BadRecord as bad:
        raise MedgroundError(f"{stream.name}: {bad.problem}") from None
    phrases: list[Row] = []
    if isinstance(results, dict) and "annotations" in results:
        phrases = _phrases(results, stream.name)
        results = _with_names(results, stream.name)
    if not isinstance(results, list):
        raise MedgroundError(f"{stream.name}: expected a list of results")
    _hand_on([*phrases, *_results(results, stream.name)], bad_lines, take, stream.name)


def _results(results: list[Any], source: str) -> Iterator[Row]:
    for number, result in enumerate(results):
        yield f"{source}: [{number}]", json.dumps(result).encode(), partial(_of_result, result)


def _of_result(result: Any) -> Answer:
    try:
        box, score = _corners([float(each) for each in result["bbox"]]), float(result.get("score", 1))
        known = {name: _id(result[name], name) for name in ("image_id", "phrase_id") if name in result}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise BadRecord("expected bbox [x, y, w, h] and score, in numbers") from None
    return Answer(known.get("image_id"), known.get("phrase_id"), [(box, score)])


def _id(value: Any, name: str) -> str:
    """Return an identifier as text: COCO's are numbers."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRecord("expected a text or a whole number", name)
    return str(value)


def _with_names(data: dict[str, Any], source: str) -> Any:
    """Return the annotations of a COCO object, with our image_ids in place of its numbers."""
    try:
        names = {image["id"]: image["image_id"] for image in data["images"]}
        return [each | {"image_id": names[each["image_id"]]} for each in data["annotations"]]
    except (KeyError, TypeError):
        raise MedgroundError(f"{source}: expected images with image_id, and annotations of them") from None


def _phrases(data: dict[str, Any], source: str) -> list[Row]:
    """Return an empty prediction for each phrase that the object lists; annotations add the boxes."""
    listed = {"images": data.get("images"), "annotations": data.get("phrases", [])}
    return [
        (f"{source}: phrases[{number}]", json.dumps(each).encode(), partial(_of_phrase, each))
        for number, each in enumerate(_with_names(listed, source))
    ]


def _of_phrase(listed: dict[str, Any]) -> Answer:
    phrase = listed.get("phrase_id")
    return Answer(
        _id(listed["image_id"], "image_id"), phrase if phrase is None else _id(phrase, "phrase_id"), []
    )
