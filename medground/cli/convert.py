"""medground convert: published data sets -> records, with one subcommand per entry of `registry.DATASETS`."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options
from medground.cli.command import DATA, FILES, Command, Group, option
from medground.cli.convert_predictions import convert_predictions
from medground.cli.convert_weights import convert_weights

SOURCES = {
    "tree": click.Argument(["source"], metavar="PATH", type=click.Path(exists=True, path_type=Path)),
    "table": click.Argument(
        ["source"],
        metavar="[FILE]",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        default="-",
    ),
}


def _unchanged(given: Any, source: Any, bad_lines: Any) -> Any:
    return given


@dataclass(frozen=True)
class DatasetOption:
    """An option of data sets, and `value(given, source, bad_lines)` for the keyword of the reader.

    keyword: "" for one that is `name`.
    """

    add: Callable[[Any], Any]
    name: str
    keyword: str = ""
    value: Callable[[Any, Any, Any], Any] = _unchanged


def _split_table(given: Path | None, source: Any, bad_lines: Any) -> Any:
    from medground.datasets import mimic_cxr

    return mimic_cxr.read_splits(given, bad_lines.take) if given else None


def _split_folder(given: Path | None, source: Path, bad_lines: Any) -> Any:
    from medground.datasets import chest_imagenome

    folder = given or chest_imagenome.splits_beside(source)
    return chest_imagenome.read_splits(folder, bad_lines.take) if folder else None


def _sizes(given: Path, source: Any, bad_lines: Any) -> Any:
    from medground.datasets import mimic_cxr

    return {each.image_id: each for each in mimic_cxr.read_images(given, bad_lines.take)}


def _image_sizes(given: Path | None, source: Any, bad_lines: Any) -> Any:
    from medground import image_sizes

    return image_sizes.read(given, bad_lines) if given else None


def _images(given: Path | None, source: Any, bad_lines: Any) -> Any:
    from medground.datasets import dicom_objects

    return dicom_objects.images_by_uid(given) if given else None


def _names(given: Path | None, source: Any, bad_lines: Any) -> Any:
    """Return the lines of a list of images, without blank ones; raise MedgroundError if it is no text."""
    from medground.errors import MedgroundError

    try:
        return given and frozenset(filter(None, map(str.strip, given.read_text("utf-8-sig").splitlines())))
    except UnicodeDecodeError:
        raise MedgroundError(f"{given}: not UTF-8; convert it with iconv") from None


OPTIONS = {
    "split-table": DatasetOption(
        option(
            "--split-table",
            type=options.FILE,
            old=["--splits"],
            group=FILES,
            help="mimic-cxr-2.0.0-split.csv; adds `split` to each record.",
        ),
        "split_table",
        "splits",
        _split_table,
    ),
    "split-folder": DatasetOption(
        option(
            "--split-folder",
            type=options.FOLDER,
            old=["--splits"],
            group=FILES,
            help="Chest ImaGenome's folder `splits` (default: next to the graphs).",
        ),
        "split_folder",
        "splits",
        _split_folder,
    ),
    "metadata": DatasetOption(
        option(
            "--metadata",
            type=options.FILE,
            required=True,
            group=FILES,
            help="mimic-cxr-2.0.0-metadata.csv, for image sizes.",
        ),
        "metadata",
        "images",
        _sizes,
    ),
    "frontal-only": DatasetOption(
        option(
            "--frontal-only", is_flag=True, old=["--frontal"], group=DATA, help="Write only AP and PA views."
        ),
        "frontal_only",
        "frontal",
    ),
    "templates": DatasetOption(
        option(
            "--templates",
            type=options.FILE,
            group=DATA,
            help="TOML table of phrases by class.",
        ),
        "templates",
    ),
    "sides": DatasetOption(
        option("--sides", is_flag=True, group=DATA, help="One phrase per side, for classes with a side."),
        "sides",
    ),
    "absent": DatasetOption(
        option("--absent", is_flag=True, group=DATA, help="Also phrases of absent classes, without boxes."),
        "absent",
    ),
    "image-sizes": DatasetOption(
        option(
            "--image-sizes",
            type=options.FILE,
            group=FILES,
            help="JSON lines with image_id, width and height, as of detect-anatomy.",
        ),
        "image_sizes",
        "sizes",
        _image_sizes,
    ),
    "readers": DatasetOption(
        option(
            "--readers",
            type=click.Choice(["fuse", "keep"]),
            default="fuse",
            show_default=True,
            group=DATA,
            help="Join the boxes of several readers, or one phrase each.",
        ),
        "readers",
    ),
    "images": DatasetOption(
        option(
            "--images",
            type=options.FOLDER,
            group=FILES,
            help="Folder of the DICOM images, for paths and sizes (default: no sizes).",
        ),
        "images",
        value=_images,
    ),
    "language": DatasetOption(
        option(
            "--language",
            type=click.Choice(["en", "es"]),
            default="en",
            show_default=True,
            group=DATA,
            help="Language of the sentences.",
        ),
        "language",
    ),
    "test-list": DatasetOption(
        option(
            "--test-list",
            type=options.FILE,
            group=FILES,
            help="test_list.txt, the names of the test images (default: draw patients).",
        ),
        "test_list",
        value=_names,
    ),
    "val-share": DatasetOption(
        option(
            "--val-share",
            type=options.SHARE,
            default=0.1,
            show_default=True,
            group=DATA,
            help="Share of the training patients that validate.",
        ),
        "val_share",
    ),
    "split-shares": DatasetOption(
        option(
            "--split-shares",
            type=options.SHARE,
            nargs=3,
            group=DATA,
            help="Shares of training, validation and test patients (default: as published).",
        ),
        "split_shares",
    ),
    "split-seed": DatasetOption(
        option(
            "--split-seed", type=options.SEED, default=0, show_default=True, group=DATA, help="Random seed."
        ),
        "split_seed",
        "seed",
    ),
    "part": DatasetOption(
        option(
            "--part",
            type=click.Choice(["train", "val", "test"]),
            group=DATA,
            help="Part of the split that FILE is (default: by its name).",
        ),
        "part",
    ),
    "competition": DatasetOption(
        option(
            "--competition",
            is_flag=True,
            group=DATA,
            help="The five classes of the competition, uncertain labels as in MGCA.",
        ),
        "competition",
    ),
}
"""The options that entries of `registry.DATASETS` may list."""


class Datasets(Group):
    """A group with one subcommand per data set; those of other packages are added when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all data sets, `predictions` and `weights`."""
        return [*registry.DATASETS, "predictions", "weights"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the subcommand of a data set, None if there is no such data set."""
        if name not in self.commands and name in registry.DATASETS:
            self.add_command(_command(name, registry.DATASETS[name]))
        return super().get_command(ctx, name)


def _command(name: str, entry: registry.Dataset) -> click.Command:
    """Return the subcommand of a data set."""
    used = [OPTIONS[each] for each in entry.options]

    def convert_dataset(
        source: Any, rejects: BinaryIO, output: str, split: str | None = None, **given: Any
    ) -> None:
        from medground import jsonl

        bad_lines = jsonl.BadLines(rejects)
        source = sys.stdin.buffer if source == "-" else Path(source)
        values = {each.keyword or each.name: each.value(given[each.name], source, bad_lines) for each in used}
        _write(entry.load()(source, take=bad_lines.take, **values), split, output, entry.records)

    added = [*(each.add for each in used), *([options.split] if entry.splits else [])]
    function = options.with_all([*added, options.rejects, options.output])(convert_dataset)
    params = [SOURCES[entry.source], *reversed(function.__click_params__)]
    example = f"\b\n    $ medground convert {name} {entry.example}"
    return Command(name, params=params, callback=convert_dataset, help=f"{entry.help}\n\n{example}")


@click.group(cls=Datasets)
def convert() -> None:
    """Convert published data sets into JSON lines, and published weights.

    Files may be gzipped; trees may be .zip files. Patient and study IDs are p10000032 and s50414267 in all
    data sets. Corrections are reported on stderr. For sentences of Chest ImaGenome and RadGraph, see
    parse-reports --input-format.

    \b
        $ medground convert ms-cxr MS_CXR_Local_Alignment_v1.1.0.csv -o phrases.jsonl
        $ medground convert mimic-reports files | medground parse-reports - -o sentences.jsonl
    """


convert.add_command(convert_predictions)
convert.add_command(convert_weights)
for name, entry in registry.DATASETS.built_in.items():
    convert.add_command(_command(name, entry))


def _write(records: Iterable[Any], split: str | None, output: str, label: str) -> None:
    from medground import console, jsonl, output_files
    from medground.datasets.selection import only_split

    with output_files.create(output) as stream:
        jsonl.write(stream, only_split(console.progress(records, label), split))
