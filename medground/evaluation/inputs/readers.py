"""Files of answers, handed on phrase by phrase or box by box, in the frame that they are written in.

jsonl  Grounding records, as `medground ground` writes them; a box without area does no harm here
csv    one row a box: phrase_id, x1, y1, x2, y2 (or x, y, w, h), and where there are, image_id, score, model
       and coverage; a row without numbers is a phrase without a box
coco   a JSON list of results: bbox [x, y, w, h], score, and phrase_id, or image_id where the image has one
       phrase; or the object that `medground ground --output-format coco` writes

A reader gives each answer to `take`, which may refuse it with BadRecord; so `--rejects` works for all.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from medground import jsonl
from medground.errors import BadRecord, MedgroundError, sift
from medground.evaluation.inputs import files
from medground.records import Box

CORNERS, SIZES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a file says of one phrase; `image_id` or `phrase_id` may be missing.

    whole: all that the file says of it, so a second answer is a fault. ours: of a Grounding record, whose
    scores are shares. said: `text`, `present` and `model`, where known, and keys to carry.
    """

    image_id: str | None
    phrase_id: str | None
    boxes: list[tuple[Box, float]]
    whole: bool = False
    ours: bool = False
    said: dict[str, Any] = field(default_factory=dict)


Take = Callable[[Answer], None]
Row = tuple[str, bytes, Callable[[], Answer]]  # place, what stands there, and what it says


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyBox:
    """A ScoredBox that may be none: without an area, say."""

    box: Box
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A Grounding whose boxes have not been looked at."""

    image_id: str
    phrase_id: str
    text: str
    boxes: list[AnyBox]
    present: float
    model: str
    extra: dict[str, Any] = field(default_factory=dict)


def read_jsonl(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Hand on each record, with all its keys."""

    def check(line: Line) -> None:
        boxes = [(each.box, each.score) for each in line.boxes]
        said = line.extra | {"text": line.text, "present": line.present, "model": line.model}
        take(Answer(line.image_id, line.phrase_id, boxes, whole=True, ours=True, said=said))

    for _ in jsonl.read(stream, Line, bad_lines, check):  # type: ignore[arg-type]
        pass


def read_csv(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Hand on each row."""
    try:
        text = b"".join(stream).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedgroundError(f"{stream.name}: not UTF-8; convert it with iconv") from None
    _hand_on(_rows(text, stream.name), bad_lines, take, stream.name)


def _hand_on(rows: Iterable[Row], bad_lines: jsonl.BadLines, take: Take, source: str) -> None:
    def reject(row: Row, bad: BadRecord) -> None:
        place, content, _ = row
        bad.place = f"{place}: "
        bad_lines.take(content, bad)

    for _ in sift(rows, lambda row: take(row[2]()), reject, source):
        pass  # each is given to `take`


def _rows(text: str, source: str) -> Iterator[Row]:
    held: list[str] = []  # the lines of one row, as they were
    table = csv.DictReader(_noting(io.StringIO(text, newline=""), held))
    try:
        columns = set(table.fieldnames or ())
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
    said: dict[str, Any] = {"model": row.get("model") or ""}
    if row.get("coverage"):
        said["coverage"] = _number(row["coverage"], "coverage")
    found = []
    if any(row[name] for name in names):
        numbers = [_number(row[name], name) for name in names]
        box = _corners(numbers) if names == SIZES else (numbers[0], numbers[1], numbers[2], numbers[3])
        found.append((box, _number(row["score"], "score") if row.get("score") else 1.0))
    return Answer(row.get("image_id") or None, row["phrase_id"] or "", found, said=said)


def _number(text: str | None, name: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise BadRecord("expected a number", name) from None


def _corners(numbers: Sequence[float]) -> Box:
    x, y, width, height = numbers
    return x, y, x + width, y + height


def read_coco(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Hand on each result."""
    try:
        results = json.loads(b"".join(stream))
    except ValueError:
        raise MedgroundError(f"{stream.name}: not JSON") from None
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
        known = {name: str(result[name]) for name in ("image_id", "phrase_id") if name in result}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise BadRecord("expected bbox [x, y, w, h] and score, in numbers") from None
    return Answer(known.get("image_id"), known.get("phrase_id"), [(box, score)])


def _with_names(data: dict[str, Any], source: str) -> Any:
    """The annotations of a COCO object, with our image_ids for its numbers."""
    try:
        names = {image["id"]: image["image_id"] for image in data["images"]}
        return [each | {"image_id": names[each["image_id"]]} for each in data["annotations"]]
    except (KeyError, TypeError):
        raise MedgroundError(f"{source}: expected images with image_id, and annotations of them") from None


def _phrases(data: dict[str, Any], source: str) -> list[Row]:
    """An empty answer for each of the phrases that the object lists: annotations add their boxes."""
    listed = {"images": data.get("images"), "annotations": data.get("phrases", [])}
    return [
        (f"{source}: phrases[{number}]", json.dumps(each).encode(), partial(_of_phrase, each))
        for number, each in enumerate(_with_names(listed, source))
    ]


def _of_phrase(listed: dict[str, Any]) -> Answer:
    return Answer(listed["image_id"], listed.get("phrase_id"), [])
