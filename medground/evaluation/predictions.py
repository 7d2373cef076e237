"""Answers in other people's files, as groundings in original pixels.

jsonl    Grounding records, as `medground ground` writes them
csv      one row a box: phrase_id, x1, y1, x2, y2 (or x, y, w, h), and where there are, image_id and score;
         a row without numbers is a phrase without a box
coco     a JSON list of results: bbox [x, y, w, h], score, and phrase_id, or image_id where the image has one
         phrase; or the object that `medground ground --format coco` writes
maira-2  JSON lines with phrase_id and `output`, the text of MAIRA-2, which holds boxes as
         <box><x10><y20><x30><y40></box>; bin n of the 100 stands for (n + .5) / 100 of the cropped square
radvlm   the same with boxes as [0.1, 0.2, 0.3, 0.4], shares of width and height

Boxes of csv and coco are ranked by score; those of a text keep their order and have the score 1. A fault in
these files ends the run, and so does a file of "original" pixels whose boxes are all within 1.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from medground import jsonl
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import files, frames
from medground.records import Box, Grounding, Phrase, ScoredBox, check_box

FIXED_FRAMES = {"maira-2": "crop", "radvlm": "normalised"}
CORNERS, SIZES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")
_BINS = re.compile(r"<box>\s*<x(\d+)>\s*<y(\d+)>\s*<x(\d+)>\s*<y(\d+)>\s*</box>")
_SHARES = re.compile(r"\[" + ",".join([r"\s*(-?\d*\.?\d+)\s*"] * 4) + r"\]")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a file says of one phrase, in its own frame; `image_id` or `phrase_id` may be missing."""

    place: str
    image_id: str | None
    phrase_id: str | None
    boxes: list[tuple[Box, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of a text format."""

    phrase_id: str
    output: str
    image_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read(
    stream: files.Hashed, kind: str, frame: str, phrases: Sequence[Phrase], bad_lines: jsonl.BadLines
) -> dict[files.Key, Grounding]:
    """The answers of a file to these phrases, its boxes brought from the frame to original pixels."""
    frames.check(frame)
    found = files.read_answers(stream, bad_lines, phrases) if kind == "jsonl" else {}
    if kind != "jsonl" or frame != frames.ORIGINAL:
        answers = READERS[kind](stream) if kind != "jsonl" else _own(found.values(), stream.name)
        found = _collected(answers, FIXED_FRAMES.get(kind, frame), _index(phrases))
    boxes = [each.box for grounding in found.values() for each in grounding.boxes]
    if boxes and max(max(box) for box in boxes) <= 1:
        raise MedgroundError(f"{stream.name}: every box is within one pixel; say --frame normalised?")
    return found


Index = dict[tuple[str | None, str | None], list[Phrase]]


def _index(phrases: Sequence[Phrase]) -> Index:
    """Phrases by (image, phrase), by (None, phrase) and by (image, None)."""
    found: Index = {}
    for each in phrases:
        for key in ((each.image_id, each.phrase_id), (None, each.phrase_id), (each.image_id, None)):
            found.setdefault(key, []).append(each)
    return found


def _collected(answers: Iterator[Answer], frame: str, index: Index) -> dict[files.Key, Grounding]:
    boxes: dict[files.Key, list[ScoredBox]] = {}
    for answer in answers:
        try:
            phrase = _phrase_of(answer, index)
            own = [ScoredBox(box=_original(box, phrase, frame), score=score) for box, score in answer.boxes]
        except BadRecord as bad:
            raise MedgroundError(f"{answer.place}: {bad}") from None
        boxes.setdefault((phrase.image_id, phrase.phrase_id), []).extend(own)
    return {key: _grounding(key, sorted(found, key=lambda each: -each.score)) for key, found in boxes.items()}


def _phrase_of(answer: Answer, index: Index) -> Phrase:
    phrases = index.get((answer.image_id, answer.phrase_id), [])
    if len(phrases) == 1:
        return phrases[0]
    field = "phrase_id" if answer.phrase_id is not None else "image_id"
    raise BadRecord("more than one phrase of the truth" if phrases else "the truth has no such phrase", field)


def _original(box: Box, phrase: Phrase, frame: str) -> Box:
    if frame != frames.ORIGINAL and not (phrase.width and phrase.height):
        raise BadRecord("the truth must have it to leave the frame", "width")
    try:
        check_box(box)
    except ValueError as error:
        raise BadRecord(str(error), "box") from None
    return frames.to_original(frame, box, phrase.width or 0, phrase.height or 0)


def _grounding(key: files.Key, boxes: list[ScoredBox]) -> Grounding:
    return Grounding(
        image_id=key[0], phrase_id=key[1], text="", boxes=boxes, present=float(bool(boxes)), model=""
    )


def _own(groundings: Iterable[Grounding], source: str) -> Iterator[Answer]:
    for each in groundings:
        boxes = [(box.box, box.score) for box in each.boxes]
        yield Answer(f"{source}: phrase_id {each.phrase_id}", each.image_id, each.phrase_id, boxes)


def _read_csv(stream: files.Hashed) -> Iterator[Answer]:
    try:
        text = b"".join(stream).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedgroundError(f"{stream.name}: not UTF-8; convert it with iconv") from None
    table = csv.DictReader(io.StringIO(text, newline=""))
    columns = set(table.fieldnames or ())
    names = next((each for each in (CORNERS, SIZES) if columns.issuperset(each)), None)
    if names is None or "phrase_id" not in columns:
        raise MedgroundError(f"{stream.name}: needs the columns phrase_id and x1, y1, x2, y2 (or x, y, w, h)")
    for row in table:
        place = f"{stream.name}:{table.line_num}"
        if not any(row[name] for name in names):
            yield Answer(place, row.get("image_id") or None, row["phrase_id"], [])
            continue
        numbers = [_number(row[name], place, name) for name in names]
        box = _corners(numbers) if names == SIZES else (numbers[0], numbers[1], numbers[2], numbers[3])
        score = _number(row["score"], place, "score") if row.get("score") else 1.0
        yield Answer(place, row.get("image_id") or None, row["phrase_id"], [(box, score)])


def _number(text: str | None, place: str, name: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise MedgroundError(f"{place}: {name}: expected a number") from None


def _corners(numbers: Sequence[float]) -> Box:
    x, y, width, height = numbers
    return x, y, x + width, y + height


def _read_coco(stream: files.Hashed) -> Iterator[Answer]:
    try:
        results = json.loads(b"".join(stream))
    except ValueError:
        raise MedgroundError(f"{stream.name}: not JSON") from None
    if isinstance(results, dict) and "annotations" in results:
        yield from _without_boxes(results, stream.name)
        results = _with_names(results, stream.name)
    if not isinstance(results, list):
        raise MedgroundError(f"{stream.name}: expected a list of results")
    for number, result in enumerate(results):
        place = f"{stream.name}: [{number}]"
        try:
            box, score = _corners([float(each) for each in result["bbox"]]), float(result.get("score", 1))
            known = {name: result[name] for name in ("image_id", "phrase_id") if name in result}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise MedgroundError(f"{place}: expected bbox [x, y, w, h] and score, in numbers") from None
        named = {name: str(value) for name, value in known.items()}
        yield Answer(place, named.get("image_id"), named.get("phrase_id"), [(box, score)])


def _with_names(data: dict[str, Any], source: str) -> Any:
    """The annotations of a COCO object, with our image_ids for its numbers."""
    try:
        names = {image["id"]: image["image_id"] for image in data["images"]}
        return [each | {"image_id": names[each["image_id"]]} for each in data["annotations"]]
    except (KeyError, TypeError):
        raise MedgroundError(f"{source}: expected images with image_id, and annotations of them") from None


def _without_boxes(data: dict[str, Any], source: str) -> Iterator[Answer]:
    """An empty answer for each of the phrases that the object lists: annotations add their boxes."""
    listed = {"images": data.get("images"), "annotations": data.get("phrases", [])}
    for number, each in enumerate(_with_names(listed, source)):
        yield Answer(f"{source}: phrases[{number}]", each["image_id"], each.get("phrase_id"), [])


def _read_bins(stream: files.Hashed) -> Iterator[Answer]:
    return _read_text(stream, _BINS, lambda number: (int(number) + 0.5) / 100)


def _read_shares(stream: files.Hashed) -> Iterator[Answer]:
    return _read_text(stream, _SHARES, float)


def _read_text(
    stream: files.Hashed, pattern: re.Pattern[str], value: Callable[[str], float]
) -> Iterator[Answer]:
    seen = set[tuple[str | None, str]]()
    for said in jsonl.read(stream, Said, jsonl.BadLines()):  # type: ignore[arg-type]
        place = f"{stream.name}: phrase_id {said.phrase_id}"
        if (said.image_id, said.phrase_id) in seen:
            raise MedgroundError(f"{place}: comes twice")
        seen.add((said.image_id, said.phrase_id))
        found = [[value(number) for number in match.groups()] for match in pattern.finditer(said.output)]
        boxes = [((x1, y1, x2, y2), 1.0) for x1, y1, x2, y2 in found]
        yield Answer(place, said.image_id, said.phrase_id, boxes)


READERS: dict[str, Callable[[files.Hashed], Iterator[Answer]]] = {
    "csv": _read_csv,
    "coco": _read_coco,
    "maira-2": _read_bins,
    "radvlm": _read_shares,
}
