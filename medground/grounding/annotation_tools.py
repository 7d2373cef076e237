"""Groundings as pre-annotations of Label Studio (JSON tasks) and CVAT (XML 1.1), to be corrected by hand.

A task of Label Studio is one phrase of one image, with its boxes as a prediction. A box of CVAT has the
phrase in its attributes, and a <tag> of its image states each phrase, so that one without a box is kept. The
readers of the corrected files are in `datasets.annotation_tools`.
"""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO
from xml.sax.saxutils import escape, quoteattr

from medground.grounding.formats import size_of
from medground.records import Grounding, Phrase

FIELDS = ("subject_id", "category", "split")
LABEL = "finding"
ATTRIBUTES = ("phrase_id", "text", "image_id", *FIELDS)


def write_label_studio(stream: BinaryIO, answers: Iterable[tuple[Phrase, Grounding]]) -> None:
    """Write a JSON array of tasks, one per phrase, while the groundings are read."""
    stream.write(b"[")
    for number, (phrase, found) in enumerate(answers):
        task = json.dumps(_task(phrase, found), ensure_ascii=False)
        stream.write((b",\n" if number else b"\n") + task.encode())
        stream.flush()
    stream.write(b"\n]\n")


def _task(phrase: Phrase, found: Grounding) -> dict[str, Any]:
    width, height = size_of(phrase)
    data = {"image": phrase.path, "path": phrase.path, "width": width, "height": height}
    data |= {"image_id": found.image_id, "phrase_id": found.phrase_id, "text": found.text} | _more(phrase)
    result = [_rectangle(n, each.box, width, height) for n, each in enumerate(found.boxes)]
    scores = [each.score for each in found.boxes]
    prediction = {"model_version": found.model, "score": max(scores, default=0.0), "result": result}
    return {"data": data, "predictions": [prediction]}


def _more(phrase: Phrase) -> dict[str, str]:
    return {key: value for key in FIELDS if (value := getattr(phrase, key)) is not None}


def _rectangle(
    number: int, box: tuple[float, float, float, float], width: int, height: int
) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    value = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
        "rectanglelabels": [LABEL],
    }
    return {
        "id": f"box{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def write_cvat(stream: BinaryIO, answers: Iterable[tuple[Phrase, Grounding]]) -> None:
    """Write one XML file; the groundings are held in memory, because an image has all its phrases."""
    images: dict[str, list[tuple[Phrase, Grounding]]] = {}
    for phrase, found in answers:
        size_of(phrase)
        images.setdefault(found.image_id, []).append((phrase, found))
    stream.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    for number, some in enumerate(images.values()):
        first, (width, height) = some[0][0], size_of(some[0][0])
        head = f'<image id="{number}" name={quoteattr(first.path)} width="{width}" height="{height}">\n'
        stream.write(head.encode())
        for phrase, found in some:
            stream.write("".join(_elements(phrase, found)).encode())
        stream.write(b"</image>\n")
    stream.write(b"</annotations>\n")


def _elements(phrase: Phrase, found: Grounding) -> Iterable[str]:
    """Yield the tag of a phrase, then its boxes, each with the attributes that identify the phrase."""
    values = {"phrase_id": found.phrase_id, "text": found.text, "image_id": found.image_id} | _more(phrase)
    attributes = "".join(
        f"<attribute name={quoteattr(key)}>{escape(value)}</attribute>" for key, value in values.items()
    )
    yield f'<tag label="{LABEL}" source="auto">{attributes}</tag>\n'
    for each in found.boxes:
        x1, y1, x2, y2 = (f"{value:.2f}" for value in each.box)
        corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
        yield f'<box label="{LABEL}" source="auto" occluded="0" {corners} z_order="0">{attributes}</box>\n'
