"""Groundings -> files: records in an output format, overlays, an HTML page, heat maps, copies of images."""

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medground import output_files, registry
from medground.grounding import copies, heatmaps, overlays, page
from medground.records import Grounding, Phrase

log = logging.getLogger(__name__)
Grounded = tuple[Phrase, Grounding]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The files of pictures to write, None for those that are not: folders, and files of all phrases."""

    overlay: Path | None = None
    html: Path | None = None
    heatmap: Path | None = None
    png: Path | None = None


def check(image: Path, output_format: str) -> None:
    """Raise MedgroundError if the output format cannot be written for this image."""
    if target := registry.OUTPUT_FORMATS[output_format].check:
        registry.attribute(target)(image)


def with_pictures(found: Iterable[Grounded], folder: Path, pictures: Pictures) -> Iterable[Grounded]:
    """Return the groundings, which are also drawn into the given files while they are consumed.

    With copies of the images, the phrases name the copies from then on.
    """
    if pictures.overlay:
        found = overlays.draw_overlays(found, folder, pictures.overlay)
    if pictures.html:
        found = page.write(found, folder, pictures.html)
    if pictures.heatmap:
        found = heatmaps.write(found, pictures.heatmap)
    if pictures.png:
        found = copies.write(found, folder, pictures.png)
    return found


def write(found: Iterable[Grounded], output: str, output_format: str | None, folder: Path) -> None:
    """Write the groundings to a file, "-" for stdout, or to a folder for formats with a file per image.

    Without a format, only the pictures are written.
    """
    if output_format is None:
        deque(found, maxlen=0)
        return
    entry = registry.OUTPUT_FORMATS[output_format]
    if not entry.one_per_image:
        with output_files.create(output) as stream:
            entry.load()(stream, found)
        return
    entry.load()(found, folder, Path(output))
    if not any(Path(output).glob("*")):
        log.warning("%s: nothing to write, it has no file", output)
