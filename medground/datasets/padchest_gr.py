"""PadChest-GR: sentences of 4,555 reports with boxes, present and absent findings (de Castro et al., 2024).

`grounded_reports_20240819.json` is an array of studies: {"StudyID", "ImageID", "findings": [{"sentence_en",
"sentence_es", "abnormal", "boxes", "extra_boxes", "labels", "locations", "progression"}]}. Boxes are
[x1, y1, x2, y2] in shares of the image, so --image-sizes is needed. `boxes` is the first reader's set,
`extra_boxes` the second one's. A sentence that is not `abnormal` has no boxes and often lacks most keys. An
abnormal one without boxes could not be localized: its `boxes` are null, not an empty list.

The keys are those of public programs that read the file; it is not public itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from medground import boxes
from medground.datasets.class_boxes import Size
from medground.datasets.json_items import JsonItem, items
from medground.datasets.sources import Source, TakeBad, name_of, number, refuse, sift, warn_of
from medground.errors import BadRecord
from medground.records import Box, Phrase

WORDS = {"en": "sentence_en", "es": "sentence_es"}
READERS = {"1": "boxes", "2": "extra_boxes"}
CARRIED = ("abnormal", "labels", "locations", "progression")


def read(
    source: Source,
    take: TakeBad = refuse,
    sizes: Mapping[str, Size] | None = None,
    readers: Literal["fuse", "keep"] = "fuse",
    language: Literal["en", "es"] = "en",
) -> Iterator[Phrase]:
    """Yield a phrase for each sentence; with readers="keep", one for each reader who drew boxes.

    readers="fuse" takes the first reader's boxes. An image without a size goes to `take`.
    """
    dirt: Counter[str] = Counter()
    listed = items(source, "grounded_reports_20240819.json")
    for some in sift(listed, lambda item: _phrases(item, sizes or {}, readers, WORDS[language], dirt), take):
        yield from some
    warn_of(dirt, name_of(source))


def _phrases(
    item: JsonItem, sizes: Mapping[str, Size], readers: str, words: str, dirt: Counter[str]
) -> list[Phrase]:
    value = item.value if isinstance(item.value, dict) else {}
    image, findings = value.get("ImageID"), value.get("findings")
    if not isinstance(image, str) or not image.strip():
        raise BadRecord("expected the name of an image", "ImageID")
    if not isinstance(findings, list):
        raise BadRecord("expected an array", "findings")
    size = sizes.get(image) or sizes.get(image.removesuffix(".png"))
    if size is None:
        raise BadRecord("no size of this image in --image-sizes", "ImageID")
    found = []
    for n, finding in enumerate(findings):
        sets = _sets(finding, n, size, readers, dirt)
        found += [_phrase(image, finding, n, reader, drawn, size, words) for reader, drawn in sets]
    study = value.get("StudyID")
    more = {"study_id": study.strip()} if isinstance(study, str) and study.strip() else {}
    return [replace(each, extra=more | each.extra) for each in found]


def _sets(
    finding: Any, n: int, size: Size, readers: str, dirt: Counter[str]
) -> list[tuple[str | None, list[Box]]]:
    """Return the boxes of each reader; the first one's, if readers are not kept apart."""
    if not isinstance(finding, dict):
        raise BadRecord("expected an object", "findings", n)
    drawn = {name: _boxes(finding.get(key), size, dirt, "findings", n, key) for name, key in READERS.items()}
    if readers == "fuse":
        return [(None, drawn["1"] or drawn["2"])]
    return [(name, each) for name, each in drawn.items() if each or name == "1"]


def _boxes(given: Any, size: Size, dirt: Counter[str], *path: str | int) -> list[Box]:
    if given is None:
        return []
    if not isinstance(given, list) or any(not isinstance(each, list) or len(each) != 4 for each in given):
        raise BadRecord("expected an array of arrays of 4", *path)
    width, height = size
    found = []
    for each in given:
        x1, y1, x2, y2 = (number(value, *path) for value in each)
        if max(map(abs, (x1, y1, x2, y2))) > 2:
            raise BadRecord("expected shares of the image, not pixels", *path)
        box = x1 * width, y1 * height, x2 * width, y2 * height
        inside = boxes.clip(box, width, height)
        if inside is None:
            raise BadRecord("a box without area, or outside its image", *path)
        dirt["boxes beyond the border of their image, clipped"] += inside != box
        found.append(boxes.rounded(inside))
    return found


def _phrase(
    image: str, finding: dict[str, Any], n: int, reader: str | None, found: list[Box], size: Size, words: str
) -> Phrase:
    text = finding.get(words)
    if not isinstance(text, str) or not text.strip():
        raise BadRecord("expected a text", "findings", n, words)
    name = image.removesuffix(".png")
    return Phrase(
        image_id=name,
        phrase_id="|".join([name, str(n), *([reader] if reader else [])]),
        path=image,
        width=size[0],
        height=size[1],
        text=" ".join(text.split()),
        boxes=found if found or finding.get("abnormal") is not True else None,
        extra={key: finding[key] for key in CARRIED if finding.get(key) is not None}
        | ({"reader": reader} if reader else {}),
    )
