"""medground evaluate: groundings and truth -> scores."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options
from medground.cli.command import DATA, FILES, MODEL, command, option
from medground.cli.named import Named
from medground.cli.paths import FileOrFolder


@command()
@options.records_or_maps
@option(
    "--truth",
    type=click.File("rb"),
    group=FILES,
    help="Phrases with ground-truth boxes, labels or questions.",
)
@option("--train", type=click.File("rb"), group=FILES, help="Training phrases; adds an image-free baseline.")
@option("--compare", type=FileOrFolder("rb"), group=FILES, help="Other predictions, for paired differences.")
@option(
    "--anatomy",
    type=click.File("rb"),
    group=FILES,
    help="Regions of detect-anatomy for all images; adds an anatomy-relative baseline.",
)
@option(
    "--input-format",
    type=Named(registry.PREDICTION_FORMATS),
    default="jsonl",
    show_default=True,
    old=["--format"],
    group=FILES,
    help="Format of FILE.",
)
@options.coordinates(old=["--frame"])
@option(
    "--compare-format",
    type=Named(registry.PREDICTION_FORMATS),
    default="jsonl",
    show_default=True,
    group=FILES,
    help="Format of the --compare file.",
)
@option(
    "--compare-coordinates",
    "compare_frame",
    metavar="SYSTEM",
    old=["--compare-frame"],
    group=FILES,
    help="Box coordinates of the --compare file.",
)
@options.coco_images
@option("--table", is_flag=True, group=FILES, help="Print a table; to stderr without -o FILE.")
@option(
    "--html",
    type=options.OutputFile(dir_okay=False, path_type=Path),
    group=FILES,
    help="Write an HTML page with figures.",
)
@option(
    "--protocol",
    "protocols",
    type=Named(registry.PROTOCOLS),
    multiple=True,
    default=("single-box",),
    show_default=True,
    old_keys=["protocols"],
    group=DATA,
    help="Evaluation protocol; repeatable.",
)
@options.scored_split
@options.scored_leakage
@option(
    "--bootstrap-samples",
    "draws",
    type=options.Integer(min=100, largest=10_000_000),
    default=10_000,
    show_default=True,
    old=["--draws"],
    group=DATA,
    help="Bootstrap samples of subjects per 95 % interval.",
)
@option("--probes", is_flag=True, group=MODEL, help="Measure robustness of --model; FILE holds the phrases.")
@options.model(help="Model that made FILE; refuses its training subjects.")
@options.seed
@options.images
@options.device
@options.config
@options.rejects
@options.output
def evaluate(
    records: BinaryIO,
    protocols: Sequence[str],
    table: bool,
    html: Path | None,
    images: Path,
    output: str,
    **given: Any,
) -> None:
    """Score predictions against ground-truth boxes.

    Reads the output of ground and writes one figure per line, with a 95 % interval over patients. Figures are
    for all phrases, each category, each side and more. --train adds an image-free baseline, and --anatomy one
    placed relative to the lungs. With --protocol anatomy, all files are output of detect-anatomy. With
    --protocol heatmap, FILE is an .npz or .safetensors file with one array per phrase_id, or a folder of
    .npy files with these names. With --protocol classification, FILE is output of probe and the truth has
    labels. With --protocol segmentation, all files have masks. With --protocol answers, FILE is output of
    answer, and truth and --train have questions. With --protocol reports, all files have reports, and FILE is
    output of write.

    With --probes, FILE holds the phrases, and --model is run on perturbed images and text.
    docs/evaluation.md explains every protocol, group, figure and format.

    \b
        $ medground evaluate groundings.jsonl --truth test.jsonl --train train.jsonl
        {"protocol":"single-box","metric":"miou","group":"all","value":0.5,...}
        $ medground evaluate test.jsonl --probes --model runs/finetuned --images images --table
    """
    given["format"] = (given.pop("input_format"), given.pop("frame"))
    given["compare_format"] = (given["compare_format"], given.pop("compare_frame"))
    _refuse_mixtures(set(protocols), given)
    options.refuse_folders(records, given["compare"], unless="heatmap" in protocols)
    options.refuse_two_stdins(
        records,
        *(given[key] for key in ("truth", "train", "compare", "anatomy", "coco_images") if given[key]),
    )
    scores = _scores(records, protocols, images, given)
    from medground import jsonl, output_files

    with output_files.create(output) as stream:
        jsonl.write(stream, scores)
    if html:
        from medground.evaluation.report import page

        page.write(html, scores, images)
    if table:
        from medground.evaluation.report.table import show

        show(scores, sys.stderr if output == "-" else sys.stdout)


def _scores(records: BinaryIO, protocols: Sequence[str], images: Path, given: dict[str, Any]) -> Any:
    """Return the scores that the options request."""
    from medground import jsonl
    from medground.evaluation import run
    from medground.evaluation.stats.scoring import Resampling

    how = Resampling(given.pop("draws"), given.pop("seed"))
    bad_lines = jsonl.BadLines(given.pop("rejects"))
    probes, device = given.pop("probes"), given.pop("device")
    if not probes:
        return run.evaluate_files(
            run.Inputs(predictions=records, bad_lines=bad_lines, **given), protocols, how
        )
    from medground.cli import evaluate_probes

    inputs = run.Inputs(predictions=records, bad_lines=bad_lines, **(given | {"truth": records}))
    return evaluate_probes.evaluate(given["model"], images, device, inputs, how)


def _refuse_mixtures(protocols: set[str], given: dict[str, Any]) -> None:
    """Raise UsageError for options that exclude each other, before anything is read."""
    if given["probes"]:
        _refuse_beside_probes(given)
    elif not given["truth"]:
        raise click.UsageError("Missing option '--truth'.")
    _refuse_anatomy(protocols, given)
    others = [name for name in registry.PROTOCOLS if name in protocols and not _reads_phrases(name)]
    if len(protocols) > 1 and others:
        raise click.UsageError(f"--protocol {others[0]} cannot be combined: it reads {_read_by(others[0])}")
    if given["coco_images"] and others:
        raise click.UsageError(f"--protocol {others[0]} takes no --coco-images")
    if given["split"] and any(_read_by(name) == "anatomy" for name in others):
        raise click.UsageError(f"--protocol {others[0]} takes no --split")
    for kind, frame in (given["format"], given["compare_format"]):
        if others and (kind, frame) not in (("jsonl", None), ("jsonl", "original")):
            raise click.UsageError(f"--protocol {others[0]} takes no --input-format and no --coordinates")
        allowed = registry.PREDICTION_FORMATS[kind].frames
        if frame and allowed and frame not in allowed:
            raise click.UsageError(
                f"--coordinates of {kind} is {registry.one_of(allowed)}: its boxes are fractions"
            )


def _refuse_anatomy(protocols: set[str], given: dict[str, Any]) -> None:
    """Raise UsageError if --anatomy has no use."""
    if given["anatomy"] and (
        given["probes"] or not given["train"] or not all(map(_reads_phrases, protocols))
    ):
        raise click.UsageError("--anatomy places the boxes of --train, with protocols over phrases")


def _read_by(protocol: str) -> str:
    return registry.PROTOCOLS[protocol].reads


def _reads_phrases(protocol: str) -> bool:
    return _read_by(protocol) == "phrases"


def _refuse_beside_probes(given: dict[str, Any]) -> None:
    if given["truth"] or given["compare"]:
        raise click.UsageError("--probes runs the model itself: leave out --truth and --compare")
    if not given["model"]:
        raise click.UsageError("--probes needs --model DIR, the model to run")
    named = {"protocols": "--protocol", "input_format": "--input-format", "frame": "--coordinates"}
    for key, flag in named.items():
        if options.is_given(key):
            raise click.UsageError(f"--probes has figures of its own: leave out {flag}")
