"""medground convert: published data sets -> records, with one subcommand for each kind of file."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options
from medground.cli.command import DATA, FILES, Group, option

tree = click.argument("root", metavar="PATH", type=click.Path(exists=True, path_type=Path))
table = click.argument(
    "source", metavar="[FILE]", type=click.Path(exists=True, dir_okay=False, allow_dash=True), default="-"
)
split_table = option(
    "--split-table",
    type=options.FILE,
    old=["--splits"],
    group=FILES,
    help="mimic-cxr-2.0.0-split.csv; adds `split` to each record.",
)
metadata = option(
    "--metadata",
    type=options.FILE,
    required=True,
    group=FILES,
    help="mimic-cxr-2.0.0-metadata.csv, for image sizes.",
)


@click.group(cls=Group)
def convert() -> None:
    """Convert published data sets into JSON lines.

    Files may be gzipped; trees may be .zip files. Patient and study IDs are p10000032 and s50414267 in all
    data sets. Corrections are reported on stderr. For sentences of Chest ImaGenome and RadGraph, see
    parse-reports --input-format.

    \b
        $ medground convert ms-cxr MS_CXR_Local_Alignment_v1.1.0.csv -o phrases.jsonl
        $ medground convert mimic-reports files | medground parse-reports - -o sentences.jsonl
    """


@convert.command("mimic-reports")
@tree
@split_table
@options.split
@options.rejects
@options.output
def mimic_reports(root: Path, split_table: Path | None, split: str, rejects: BinaryIO, output: str) -> None:
    """Convert MIMIC-CXR's report tree to reports.

    Reads a folder, a .zip or one .txt.

    \b
        $ medground convert mimic-reports mimic-cxr-reports.zip -o reports.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    _write(mimic_cxr.read_reports(root, take, _splits(split_table, take)), split, output, "reports")


@convert.command("mimic-sectioned")
@table
@split_table
@options.split
@options.rejects
@options.output
def mimic_sectioned(
    source: str, split_table: Path | None, split: str, rejects: BinaryIO, output: str
) -> None:
    """Convert MIMIC-CXR's sections to reports.

    Reads mimic_cxr_sectioned.csv; the reports have sections instead of one text.

    \b
        $ medground convert mimic-sectioned mimic_cxr_sectioned.csv -o reports.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    _write(
        mimic_cxr.read_sectioned(_source(source), take, _splits(split_table, take)), split, output, "reports"
    )


@convert.command("mimic-jpg")
@table
@split_table
@options.split
@option("--frontal-only", is_flag=True, old=["--frontal"], group=DATA, help="Write only AP and PA views.")
@options.rejects
@options.output
def mimic_jpg(
    source: str, split_table: Path | None, split: str, frontal_only: bool, rejects: BinaryIO, output: str
) -> None:
    """Convert MIMIC-CXR-JPG's metadata to images.

    Reads mimic-cxr-2.0.0-metadata.csv; the images have no regions: pass them to detect-anatomy.

    \b
        $ medground convert mimic-jpg mimic-cxr-2.0.0-metadata.csv --frontal-only -o images.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    images = mimic_cxr.read_images(_source(source), take, _splits(split_table, take))
    _write((each for each in images if each.is_frontal or not frontal_only), split, output, "images")


@convert.command("imagenome")
@tree
@metadata
@option(
    "--split-folder",
    type=options.FOLDER,
    old=["--splits"],
    group=FILES,
    help="Chest ImaGenome's folder `splits` (default: next to the graphs).",
)
@options.split
@options.rejects
@options.output
def imagenome(
    root: Path, metadata: Path, split_folder: Path | None, split: str, rejects: BinaryIO, output: str
) -> None:
    """Convert Chest ImaGenome's scene graphs to region boxes.

    Reads the scene graphs under a folder or in a .zip; invalid boxes are fixed, with a warning.
    With --split, images of the gold patients (images_to_avoid.csv) are excluded.

    \b
        $ medground convert imagenome chest-imagenome-1.0.0 \\
              --metadata mimic-cxr-2.0.0-metadata.csv --split train -o boxes.jsonl
    """
    from medground import jsonl
    from medground.datasets import chest_imagenome, mimic_cxr

    take = jsonl.BadLines(rejects).take
    folder = split_folder or chest_imagenome.splits_beside(root)
    found = chest_imagenome.read_splits(folder, take) if folder else None
    images = {each.image_id: each for each in mimic_cxr.read_images(metadata, take)}
    _write(chest_imagenome.read_anatomy(root, images, take, found), split, output, "images")


@convert.command("imagenome-gold")
@table
@metadata
@options.rejects
@options.output
def imagenome_gold(source: str, metadata: Path, rejects: BinaryIO, output: str) -> None:
    """Convert Chest ImaGenome's gold boxes to region boxes.

    Reads gold_bbox_coordinate_annotations_1000images.csv: manually annotated boxes.

    \b
        $ medground convert imagenome-gold gold_bbox_coordinate_annotations_1000images.csv \\
              --metadata mimic-cxr-2.0.0-metadata.csv -o gold.jsonl
    """
    from medground import jsonl
    from medground.datasets import chest_imagenome, mimic_cxr

    take = jsonl.BadLines(rejects).take
    images = {each.image_id: each for each in mimic_cxr.read_images(metadata, take)}
    _write(chest_imagenome.read_gold(_source(source), images, take), None, output, "images")


@convert.command("ms-cxr")
@table
@options.split
@options.rejects
@options.output
def ms_cxr(source: str, split: str, rejects: BinaryIO, output: str) -> None:
    """Convert MS-CXR to phrases with boxes.

    Reads the CSV of either version, or the JSON.

    \b
        $ medground convert ms-cxr MS_CXR_Local_Alignment_v1.1.0.csv --split test -o test.jsonl
    """
    from medground import jsonl
    from medground.datasets import ms_cxr as reader

    _write(reader.read(_source(source), jsonl.BadLines(rejects).take), split, output, "phrases")


def _write(records: Iterable[Any], split: str | None, output: str, label: str) -> None:
    from medground import console, jsonl
    from medground.datasets.selection import only_split

    with jsonl.create(output) as stream:
        jsonl.write(stream, only_split(console.progress(records, label), split))


def _source(path: str) -> Any:
    """Return what a reader takes: a path, or stdin for -."""
    return sys.stdin.buffer if path == "-" else Path(path)


def _splits(path: Path | None, take: Any) -> dict[str, str] | None:
    from medground.datasets import mimic_cxr

    return mimic_cxr.read_splits(path, take) if path else None
