"""Groundings -> files: records in an output format, overlays, an HTML page, heat maps."""

from collections.abc import Iterable
from pathlib import Path

from medground import output_files, registry
from medground.grounding import heatmaps, overlays, page
from medground.grounding.predict import Grounded


def check(image: Path, output_format: str) -> None:
    """Raise MedgroundError if the output format cannot be written for this image."""
    if target := registry.OUTPUT_FORMATS[output_format].check:
        registry.attribute(target)(image)


def with_pictures(
    found: Iterable[Grounded], folder: Path, overlay: Path | None, html: Path | None, heatmap: Path | None
) -> Iterable[Grounded]:
    """Return the groundings, which are also drawn into the given files while they are consumed."""
    if overlay:
        found = overlays.draw_overlays(found, folder, overlay)
    if html:
        found = page.write(found, folder, html)
    if heatmap:
        found = heatmaps.write(found, heatmap)
    return found


def write(found: Iterable[Grounded], output: str, output_format: str, folder: Path) -> None:
    """Write the groundings to a file, "-" for stdout, or to a folder for formats with a file per image."""
    entry = registry.OUTPUT_FORMATS[output_format]
    if entry.one_per_image:
        entry.load()(found, folder, Path(output))
        return
    with output_files.create(output) as stream:
        entry.load()(stream, found)
