"""Images and the mask files that belong to them -> anatomy records; no detector runs.

Masks of an image are searched under three names, in this order: its path without the suffix, the file name
without it, its image_id. `registry.MASK_FORMATS` has the formats.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from medground import images, registry
from medground.anatomy import coco, mask_files, masks, regions
from medground.anatomy.detect import Reject, anatomy_of, sides_fit
from medground.anatomy.mask_files import Part
from medground.anatomy.masks import Fit, Model, NoFit, Shape
from medground.errors import MedgroundError
from medground.parallel import in_threads
from medground.records import Anatomy, Image, Region

log = logging.getLogger(__name__)
VERSION = 1  # increased when the same masks give other boxes
TURNED = (
    "the left lung lies to the left of the right lung: not a frontal image, or the mask names use "
    "the viewer's sides (--mask-sides viewer)"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of reading masks: `names` is a TOML file, `fit` their grid on the image (None: see
    Frame), `viewer` whether left in their names is the left side of the image."""

    kind: str
    names: Path | None = None
    fit: Fit | None = None
    viewer: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of a mask reader next to the path of the file or folder.

    names: the names under which masks of the image are searched. image_size: (width, height). model: the
    classes and their regions. labels: the keys of --mask-names.
    """

    names: list[str]
    image_size: tuple[int, int]
    model: Model
    labels: list[str]


class Source:
    """The mask files under PATH; `model` is a hash of everything that determines their boxes."""

    def __init__(self, path: Path, options: Options):
        own = _read_names(options.names) if options.names else {}
        given = masks.model(options.kind)
        given = masks.with_names(given, own, str(options.names)) if own else given
        self.format = registry.MASK_FORMATS[options.kind]
        if self.format.needs_names and not (own and all(label.isdecimal() for label in own)):
            raise MedgroundError("label maps are whole numbers: --mask-names must give the meaning of each")
        self.options, self.path = options, path
        self.table = replace(given, fit=options.fit or given.fit)
        self.labels = sorted(own)
        load = self.format.all_images if path.is_file() else None
        self.whole = registry.attribute(load)(path) if load else None
        self.model = f"{options.kind}-{_digest(self.table, options)}"

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def regions(self, record: Image, image_size: tuple[int, int]) -> list[Region]:
        """Return the regions of an image of `image_size` = (width, height); raise MedgroundError if it has no
        masks."""
        parts = self._parts(record, image_size)
        try:
            shapes, grid = _shapes(parts, self.table, self.options.viewer)
            if not shapes:
                return []
            return masks.to_regions(shapes, masks.frame_of(grid, image_size, self.table.fit))
        except NoFit as error:
            raise MedgroundError(f"{record.path}: {error}") from None

    def _parts(self, record: Image, image_size: tuple[int, int]) -> Iterator[Part]:
        names = _names(record)
        if self.whole is not None:
            return _of_image(self.whole, names, image_size)
        request = Request(names=names, image_size=image_size, model=self.table, labels=self.labels)
        found: Iterator[Part] = self.format.load()(self._find(names), request)
        return found

    def _find(self, names: list[str]) -> Path:
        for name in names:
            for suffix in self.format.suffixes:
                if (found := self.path / f"{name}{suffix}").is_file():
                    return found
            if self.format.folders and (self.path / name).is_dir():
                return self.path / name
        raise MedgroundError(f"{names[0]}: no {self.options.kind} masks for this image in {self.path}")


def read_classes(path: Path, request: Request) -> Iterator[Part]:
    """Return the masks of an image with one array, file or COCO category per class."""
    if path.suffix == ".json":
        return read_coco(path, request)
    classes = request.model.classes
    return mask_files.read(path, classes, _wanted(path, request.model))


def read_labels(path: Path, request: Request) -> Iterator[Part]:
    """Return the masks of a label map."""
    return mask_files.read_labels(path, request.labels)


def read_coco(path: Path, request: Request) -> Iterator[Part]:
    """Return the masks of an image in COCO's JSON."""
    own = coco.load(path)
    if len(own.sizes) == 1:  # under any name inside: the file has the image's name
        return own.parts(next(iter(own.sizes)), request.image_size)
    return _of_image(own, request.names, request.image_size)


def _wanted(path: Path, model: Model) -> frozenset[str]:
    """Return the names, spelled as in the file, of classes that are regions."""
    if model.classes:
        spelled: Iterable[str] = model.classes
    elif path.is_dir():
        spelled = [each.stem for each in path.iterdir()]
    else:
        spelled = mask_files.array_names(path)
    return frozenset(each for each in spelled if masks.plain(each) in model.names)


def _names(record: Image) -> list[str]:
    path = PurePath(record.path)
    return list(dict.fromkeys([str(path.with_suffix("")), path.stem, record.image_id]))


def _of_image(file: coco.Coco, names: list[str], image_size: tuple[int, int]) -> Iterator[Part]:
    image = file.image(names)
    if image is None:
        raise MedgroundError(f"{names[0]}: no masks for this image in {file.path}")
    return file.parts(image, image_size)


def _read_names(path: Path) -> dict[str, Any]:
    """Return the table `names` of a TOML file: class name or label number = region."""
    import tomllib

    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MedgroundError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise MedgroundError(f"{path}: nested too deeply") from None
    if set(given) != {"names"} or not isinstance(given["names"], dict) or not given["names"]:
        raise MedgroundError(f'{path}: expected one table [names] with lines like 3 = "left lung"')
    return given["names"]


def _shapes(parts: Iterable[Part], table: Model, viewer: bool) -> tuple[dict[str, Shape], tuple[int, int]]:
    """Return (the shape of each region or helper, (width, height) of the masks' grid).

    Classes of the same region are merged before specks are removed.
    """
    inside: dict[str, Any] = {}
    likely: dict[str, Any] = {}
    for name, mask, scores in parts:
        region = table.names.get(masks.plain(name))
        if region is None:
            continue
        region = regions.swap_sides(region) if viewer else region
        if any(each.shape != mask.shape for each in inside.values()):
            raise NoFit(f"the mask {name!r} differs in size from earlier masks")
        inside[region] = inside[region] | mask if region in inside else mask
        if scores is not None:
            likely[region] = np.maximum(likely[region], scores) if region in likely else scores
    found = {region: masks.shape_of(mask, likely.get(region)) for region, mask in inside.items()}
    height, width = next(iter(inside.values())).shape if inside else (1, 1)
    return {region: shape for region, shape in found.items() if shape}, (width, height)


def _digest(table: Model, options: Options) -> str:
    said = [VERSION, sorted(table.names.items()), table.fit, options.viewer, list(map(str, masks.rules()))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def boxes_of_masks(
    records: Iterable[Image], folder: Path, source: Source, reject: Reject, min_score: float
) -> Iterator[Anatomy]:
    """Yield the anatomy of each image of the records, in order; paths are relative to FOLDER.

    Only the header of an image is read. An image with an unreadable file or unreadable masks goes to
    `reject`. An image with left and right lung exchanged gets no boxes, a warning, and the view "other".
    """

    def read(record: Image) -> tuple[images.Header, list[Region]] | MedgroundError:
        try:
            header = images.describe(folder / record.path)
            return header, source.regions(record, (header.width, header.height))
        except MedgroundError as error:
            return error

    for record, ready in in_threads(read, records, ahead=1):
        if isinstance(ready, MedgroundError):
            reject(record, ready)
            continue
        header, found = ready
        doubt = None if sides_fit({each.name: each.box for each in found}) else TURNED
        sure = [each for each in found if each.score >= min_score]
        yield anatomy_of(record, header, sure, source.model, doubt)
