"""Chest ImaGenome (Wu et al., 2021): boxes of 29 regions on 242,072 frontal MIMIC-CXR images, and the
report's findings in each region.

`silver_dataset/scene_graph/<image>_SceneGraph.json` holds one image: `objects` with a box each, twice: in
pixels of a 224 x 224 letterbox, and as `original_x1` ... in pixels of the full-size image. We use the second.
A graph does not hold the size of its image, so the readers need the images of `mimic_cxr.read_images`.
`attributes` hold, by region, the phrases about it and their meaning.
`silver_dataset/splits/` lists the images of train, valid and test, and the gold patients to avoid.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medground import boxes, strict_json
from medground.datasets.mimic_cxr import study_id, subject_id
from medground.datasets.sources import (
    File,
    Row,
    Source,
    TakeBad,
    files,
    name_of,
    number,
    refuse,
    rows,
    sift,
    warn_of,
)
from medground.errors import BadRecord, MedgroundError
from medground.records import Anatomy, Region

PATTERN = "*_SceneGraph.json"
KNOWN = {
    *("image_id", "viewpoint", "patient_id", "study_id", "gender", "age_decile", "reason_for_exam"),
    *("StudyDateTime", "objects", "attributes", "relationships"),
}
SIDES = ("original_x1", "original_y1", "original_x2", "original_y2")


@dataclass(frozen=True)
class Splits:
    """The split of each image, and the images of gold patients, which must not be used for training."""

    of_image: dict[str, str] = field(default_factory=dict)
    avoid: frozenset[str] = frozenset()


def read_splits(folder: Path, take: TakeBad = refuse) -> Splits:
    """Return the splits of `silver_dataset/splits`, with or without an index column; files may be missing."""
    of_image: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        if (path := folder / f"{split}.csv").exists():
            of_image |= dict.fromkeys(_listed(path, take), split)
    path = folder / "images_to_avoid.csv"
    if not of_image and not path.exists():
        raise MedgroundError(f"{folder}: no train.csv, valid.csv, test.csv or images_to_avoid.csv in it")
    return Splits(of_image, frozenset(_listed(path, take)) if path.exists() else frozenset())


def _listed(path: Path, take: TakeBad) -> Iterator[str]:
    table = rows(path, {"dicom_id"}, "a split of Chest ImaGenome", take)
    return sift(table, lambda row: row.text("dicom_id"), take)


def splits_beside(root: Path) -> Path | None:
    """Return the folder `splits` of the data set that a folder or file of graphs belongs to; None if not
    found.
    """
    for folder in (root, *root.absolute().parents[:2]):
        for place in (folder / "splits", folder / "silver_dataset" / "splits"):
            if (place / "train.csv").exists() or (place / "images_to_avoid.csv").exists():
                return place
    return None


def read_anatomy(
    root: Path, images: Mapping[str, Anatomy], take: TakeBad = refuse, splits: Splits | None = None
) -> Iterator[Anatomy]:
    """Yield the regions of each image under a folder or in a .zip, sorted by file name, lateral views too.

    Boxes are clipped to the image. Boxes without area, and all except the first of a region, are left out,
    with one warning per kind. `extra` gets the split, and `avoid` for an image of a gold patient.
    """
    splits, dirt, seen = splits or Splits(), Counter[str](), set[str]()
    for anatomy in sift(files(root, PATTERN), lambda file: _anatomy(file, images, splits, dirt), take):
        if anatomy.image_id in seen:
            dirt["second graphs of an image, left out"] += 1
            continue
        seen.add(anatomy.image_id)
        yield anatomy
    dirt["images of the splits without a graph"] += len(splits.of_image.keys() - seen)
    warn_of(dirt, str(root))


def _anatomy(file: File, images: Mapping[str, Anatomy], splits: Splits, dirt: Counter[str]) -> Anatomy:
    graph = read_graph(file)
    image = _image(images, graph["image_id"], "image_id")
    drawn = (_Drawn.of(each, i) for i, each in enumerate(graph["objects"]))
    study = graph.get("study_id")
    subject = graph.get("patient_id")
    return Anatomy(
        image_id=image.image_id,
        study_id=study_id(study) if study else image.study_id,
        subject_id=subject_id(subject) if subject else image.subject_id,
        path=image.path,
        width=image.width,
        height=image.height,
        view=graph.get("viewpoint") or image.view,
        regions=_regions(drawn, image, dirt),
        extra={key: value for key, value in graph.items() if key not in KNOWN}
        | image.extra
        | _carried(image.image_id, splits),
    )


def read_graph(file: File) -> dict[str, Any]:
    """Return the scene graph with all its lists (possibly empty); raise BadRecord if it is not a graph."""
    graph = strict_json.parse(file.content.removeprefix(b"\xef\xbb\xbf"))
    if not isinstance(graph, dict):
        raise BadRecord("expected an object")
    if not isinstance(graph.get("image_id"), str):
        raise BadRecord("expected the id of an image", "image_id")
    for key in ("objects", "attributes"):
        if not isinstance(graph.setdefault(key, []), list):
            raise BadRecord("expected an array", key)
    return graph


def _image(images: Mapping[str, Anatomy], image_id: str, *path: str) -> Anatomy:
    image = images.get(image_id.strip().removesuffix(".dcm"))
    if image is None:
        raise BadRecord("this image is not in the metadata table", *path)
    return image


def _carried(image_id: str, splits: Splits) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    if image_id in splits.of_image:
        carried["split"] = splits.of_image[image_id]
    if image_id in splits.avoid:
        carried["avoid"] = True
    return carried


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Return the region's name and its four sides; raise BadRecord if they are not numbers."""

    name: str
    box: tuple[float, float, float, float]

    @staticmethod
    def of(value: Any, index: int) -> "_Drawn":
        if not isinstance(value, dict):
            raise BadRecord("expected an object", "objects", index)
        if not isinstance(name := value.get("bbox_name"), str):
            raise BadRecord("expected the name of a region", "objects", index, "bbox_name")
        x1, y1, x2, y2 = (number(value.get(side), "objects", index, side) for side in SIDES)
        return _Drawn(name.strip(), (x1, y1, x2, y2))


def _regions(drawn: Iterable[_Drawn], image: Anatomy, dirt: Counter[str]) -> list[Region]:
    found: dict[str, Region] = {}
    for each in drawn:
        inside = boxes.clip(each.box, image.width, image.height)
        if inside is None:
            dirt["boxes without area inside their image, left out"] += 1
        elif each.name in found:
            dirt["second boxes of a region, left out"] += 1
        else:
            dirt["boxes beyond the border of their image, clipped"] += inside != each.box
            found[each.name] = Region(name=each.name, box=boxes.rounded(inside))
    return list(found.values())


def read_gold(source: Source, images: Mapping[str, Anatomy], take: TakeBad = refuse) -> Iterator[Anatomy]:
    """Yield the annotated regions: `gold_bbox_coordinate_annotations_1000images.csv`.

    One line for each image, in the order of the file, with all its boxes clipped as in `read_anatomy`. An
    image with one invalid row goes to `take` as a whole.
    """
    dirt = Counter[str]()
    table = rows(source, {"image_id", "bbox_name", *SIDES}, "Chest ImaGenome's gold boxes", take)
    groups: dict[str, list[Row]] = defaultdict(list)
    for image_id, row in sift(table, lambda row: (row.text("image_id"), row), take):
        groups[image_id].append(row)
    found = (_Gold(own) for own in groups.values())
    yield from sift(found, lambda gold: _gold(gold, images, dirt), take)
    warn_of(dirt, name_of(source))


@dataclass(frozen=True, slots=True)
class _Gold:
    """The rows of one image."""

    rows: list[Row]

    @property
    def raw(self) -> bytes:
        return b"".join(each.raw for each in self.rows)

    @property
    def place(self) -> str:
        return self.rows[0].place


def _gold(gold: _Gold, images: Mapping[str, Anatomy], dirt: Counter[str]) -> Anatomy:
    image = _image(images, gold.rows[0].text("image_id"), "image_id")
    drawn = [_gold_box(row) for row in gold.rows]
    return Anatomy(
        image_id=image.image_id,
        study_id=image.study_id,
        subject_id=image.subject_id,
        path=image.path,
        width=image.width,
        height=image.height,
        view=image.view,
        regions=_regions(drawn, image, dirt),
        extra=dict(image.extra),
    )


def _gold_box(row: Row) -> _Drawn:
    try:
        x1, y1, x2, y2 = (row.number(side) for side in SIDES)
        return _Drawn(row.text("bbox_name"), (x1, y1, x2, y2))
    except BadRecord as bad:
        bad.place = row.place  # of the invalid row, not of the image's first row
        raise
