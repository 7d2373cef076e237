"""medground convert: published data sets -> our records, one subcommand for each kind of file."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options

tree = click.argument("root", metavar="PATH", type=click.Path(exists=True, path_type=Path))
table = click.argument(
    "source", metavar="[FILE]", type=click.Path(exists=True, dir_okay=False, allow_dash=True), default="-"
)
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
splits_table = click.option(
    "--splits", type=existing_file, help="mimic-cxr-2.0.0-split.csv; each record then carries its split."
)
split = click.option("--split", metavar="NAME", help="Write only this split: train, validate, test, ...")
metadata = click.option(
    "--metadata",
    type=existing_file,
    required=True,
    help="mimic-cxr-2.0.0-metadata.csv, which says how large the images are.",
)


@click.group()
def convert() -> None:
    """Turn published data sets into the JSON lines that the other commands read.

    Files may be gzipped, trees may be the .zip as it was downloaded. Patients become p10000032 and studies
    s50414267 whichever file they come from. What is mended on the way is said on stderr. The sentences of
    Chest ImaGenome and RadGraph are read by parse-reports --from.

    \b
        $ medground convert ms-cxr MS_CXR_Local_Alignment_v1.1.0.csv -o phrases.jsonl
        $ medground convert mimic-reports files | medground parse-reports - -o sentences.jsonl
    """


@convert.command("mimic-reports")
@tree
@splits_table
@split
@options.rejects
@options.output
def mimic_reports(root: Path, splits: Path | None, split: str, rejects: BinaryIO, output: str) -> None:
    """MIMIC-CXR's report tree -> reports.

    Reads a folder, a .zip or one .txt.

    \b
        $ medground convert mimic-reports mimic-cxr-reports.zip -o reports.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    _write(mimic_cxr.read_reports(root, take, _splits(splits, take)), split, output, "reports")


@convert.command("mimic-sectioned")
@table
@splits_table
@split
@options.rejects
@options.output
def mimic_sectioned(source: str, splits: Path | None, split: str, rejects: BinaryIO, output: str) -> None:
    """MIMIC-CXR's sections -> reports.

    Reads mimic_cxr_sectioned.csv; the reports have their sections instead of a text.

    \b
        $ medground convert mimic-sectioned mimic_cxr_sectioned.csv -o reports.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    _write(mimic_cxr.read_sectioned(_source(source), take, _splits(splits, take)), split, output, "reports")


@convert.command("mimic-jpg")
@table
@splits_table
@split
@click.option("--frontal", is_flag=True, help="Write only AP and PA views.")
@options.rejects
@options.output
def mimic_jpg(
    source: str, splits: Path | None, split: str, frontal: bool, rejects: BinaryIO, output: str
) -> None:
    """MIMIC-CXR-JPG's image list -> images.

    Reads mimic-cxr-2.0.0-metadata.csv; the images have no regions yet: they are for detect-anatomy.

    \b
        $ medground convert mimic-jpg mimic-cxr-2.0.0-metadata.csv --frontal -o images.jsonl
    """
    from medground import jsonl
    from medground.datasets import mimic_cxr

    take = jsonl.BadLines(rejects).take
    images = mimic_cxr.read_images(_source(source), take, _splits(splits, take))
    _write((each for each in images if each.is_frontal or not frontal), split, output, "images")


@convert.command("imagenome")
@tree
@metadata
@click.option(
    "--splits",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Chest ImaGenome's folder `splits`; looked for beside the graphs if not given.",
)
@split
@options.rejects
@options.output
def imagenome(
    root: Path, metadata: Path, splits: Path | None, split: str, rejects: BinaryIO, output: str
) -> None:
    """Chest ImaGenome's graphs -> region boxes.

    Reads the scene graphs under a folder or in a .zip; damaged boxes are mended, with a warning.
    With --split, images of the gold patients (images_to_avoid.csv) are left out.

    \b
        $ medground convert imagenome chest-imagenome-1.0.0 \\
              --metadata mimic-cxr-2.0.0-metadata.csv --split train -o boxes.jsonl
    """
    from medground import jsonl
    from medground.datasets import chest_imagenome, mimic_cxr

    take = jsonl.BadLines(rejects).take
    folder = splits or chest_imagenome.splits_beside(root)
    found = chest_imagenome.read_splits(folder, take) if folder else None
    images = {each.image_id: each for each in mimic_cxr.read_images(metadata, take)}
    _write(chest_imagenome.read_anatomy(root, images, take, found), split, output, "images")


@convert.command("imagenome-gold")
@table
@metadata
@options.rejects
@options.output
def imagenome_gold(source: str, metadata: Path, rejects: BinaryIO, output: str) -> None:
    """Chest ImaGenome's gold boxes -> region boxes.

    Reads gold_bbox_coordinate_annotations_1000images.csv: boxes that people drew.

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
@split
@options.rejects
@options.output
def ms_cxr(source: str, split: str, rejects: BinaryIO, output: str) -> None:
    """MS-CXR -> phrases with boxes.

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
    """What a reader takes: a path, or stdin for -."""
    return sys.stdin.buffer if path == "-" else Path(path)


def _splits(path: Path | None, take: Any) -> dict[str, str] | None:
    from medground.datasets import mimic_cxr

    return mimic_cxr.read_splits(path, take) if path else None
