"""Readers of prediction files. They pass on phrases or boxes one by one, in the frame of the file.

jsonl  Grounding records, as `medground ground` writes them; a box without area is allowed
csv    one row per box: phrase_id, x1, y1, x2, y2 (or x, y, w, h), and optionally image_id, score, model
       and coverage; a row without numbers is a phrase without a box; `coordinates`: the frame of a row.
       Names of columns of published tables are known too (`CORNERS`, `SIZES`, `IMAGES`, `SCORES`). Without
       phrase_id, the image identifies the phrase, and the words in one of `WORDS` if it has several.

`coco_results` reads COCO's files, and `vlm_text` the text of models.
A reader passes each prediction to `take`, which may refuse it with BadRecord. So `--rejects` works for all
formats.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from medground import jsonl, limits, spreadsheet
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.inputs import files, items
from medground.published import GZIP, GZIPPED
from medground.records import Box

CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"))
SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
IMAGES = (
    "image_id",
    "dicom_id",
    "patientId",
    "ImageID",
    "image_path",
    "image",
    "file_name",
    "filename",
    "path",
)
WORDS = ("label_text", "phrase", "text", "label", "category_name", "class_name", "category", "class")
SCORES = ("score", "confidence", "conf")


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a file for one phrase; `image_id` or `phrase_id` may be missing.

    An image may also be given by its path in the truth or by its file name.
    label: the finding that the boxes show.
    match: how it is compared with the phrases of the image; any: only if there are several, same: it is the
    phrase, inside: it contains the phrase.
    whole: it is complete, so a second one for the phrase is an error.
    ours: from a Grounding record, whose scores are in [0, 1].
    `said`: `text`, `present` and `model`, if given, and keys to pass through.
    frame: of its boxes, if it is another than the format's.
    sure: `frame` is that of this line, also if an option names one for the file.
    image: keys of the image that the file states, such as its size and patient.
    loose: `phrase_id` may also be the name of an image, or an id that the truth does not have.
    """

    image_id: str | None
    phrase_id: str | None
    boxes: list[tuple[Box, float]]
    whole: bool = False
    ours: bool = False
    said: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    frame: str | None = None
    sure: bool = False
    match: Literal["any", "same", "inside"] = "any"
    loose: bool = False
    image: Mapping[str, Any] = field(default_factory=dict)


Take = Callable[[Answer], None]
Reader = Callable[[files.Hashed, jsonl.BadLines, Take], None]


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
        frame = line.extra.pop("coordinates", None)
        if not isinstance(frame, str | None):
            raise BadRecord("expected a text", "coordinates")
        said = line.extra | {"text": line.text, "present": line.present, "model": line.model}
        sure = frame is not None
        take(
            Answer(
                line.image_id, line.phrase_id, boxes, True, True, said, None, frame, sure, image=line.extra
            )
        )

    for _ in jsonl.read(stream, Line, bad_lines, check):  # type: ignore[arg-type]
        pass


def read_csv(stream: files.Hashed, bad_lines: jsonl.BadLines, take: Take) -> None:
    """Pass on each row."""
    content = limits.joined(stream, stream.name)
    if content.startswith(GZIP):
        raise MedgroundError(f"{stream.name}: {GZIPPED}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MedgroundError(f"{stream.name}: not UTF-8; convert it with iconv") from None
    items.hand_on(_rows(text, stream.name, take), bad_lines, stream.name)


def _rows(text: str, source: str, take: Take) -> Iterator[items.Row]:
    held: list[str] = []  # the original lines of one row
    table = csv.DictReader(_noting(io.StringIO(text, newline=""), held))
    try:
        columns = set(table.fieldnames or ())
        if len(columns) < len(table.fieldnames or ()):
            raise MedgroundError(f"{source}: two columns have the same name")
        names = next((each for each in (*CORNERS, *SIZES) if columns.issuperset(each)), None)
        if names is None or columns.isdisjoint(("phrase_id", *IMAGES)):
            raise MedgroundError(f"{source}: needs the columns phrase_id and x1, y1, x2, y2 (or x, y, w, h)")
        held.clear()
        for row in table:
            yield f"{source}:{table.line_num}", "".join(held).encode(), partial(_take_row, take, row, names)
            held.clear()
    except csv.Error:
        raise MedgroundError(f"{source}:{table.line_num + 1}: not CSV") from None


def _noting(lines: Iterable[str], held: list[str]) -> Iterator[str]:
    for line in lines:
        held.append(line)
        yield line


def _take_row(take: Take, row: dict[str, str | None], names: Sequence[str]) -> None:
    take(_of_row(row, names))


def _of_row(row: dict[str, str | None], names: Sequence[str]) -> Answer:
    if None in row or None in row.values():  # of csv.DictReader, for a long and for a short row
        raise BadRecord("expected as many cells as in the header")
    said: dict[str, Any] = {"model": spreadsheet.plain(row.get("model") or "")}
    if row.get("coverage"):
        said["coverage"] = _number(row["coverage"], "coverage")
    found = []
    if any(row[name] for name in names):
        numbers = [_number(row[name], name) for name in names]
        box = corners(numbers) if names in SIZES else (numbers[0], numbers[1], numbers[2], numbers[3])
        score = next((name for name in SCORES if row.get(name)), None)
        found.append((box, _number(row[score], score) if score else 1.0))
    phrase, frame = (_cell(row, name) for name in ("phrase_id", "coordinates"))
    about = {"subject_id": _cell(row, "subject_id")}
    own: dict[str, Any] = {"said": said, "frame": frame, "sure": frame is not None, "image": about}
    image = _cell(row, *IMAGES)
    return Answer(image, phrase, found, label=None if phrase else _cell(row, *WORDS), **own)


def _cell(row: dict[str, str | None], *names: str) -> str | None:
    """Return the text in the first of these columns that is not empty."""
    return next((spreadsheet.plain(cell) for name in names if (cell := row.get(name))), None)


def _number(text: str | None, name: str) -> float:
    try:
        return float((text or "").replace("_", "x"))  # Python's own notation is no number of a table
    except ValueError:
        raise BadRecord("expected a number", name) from None


def corners(numbers: Sequence[float]) -> Box:
    """Return [x, y, width, height] as corners."""
    x, y, width, height = numbers
    return x, y, x + width, y + height
