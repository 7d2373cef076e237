"""medground evaluate: groundings and truth -> scores."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
from click.core import ParameterSource

from medground.cli import options

PHRASE_PROTOCOLS = ("single-box", "pooled", "all-pairs", "set", "coco")
FORMATS = ("jsonl", "csv", "coco", "maira-2", "radvlm")
SHARES = {"maira-2": (None, "crop", "normalised")}  # its bins are shares: there they can be no pixels
ALONE = ("heatmap", "anatomy")
PROTOCOLS = (*PHRASE_PROTOCOLS, *ALONE)


@click.command()
@options.records
@click.option("--truth", type=click.File("rb"), help="Phrases with boxes.")
@click.option("--train", type=click.File("rb"), help="Training phrases; fits the image-free prior.")
@click.option(
    "--split", metavar="NAME", help="Score only this split of --truth; of --train then take the split train."
)
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(PROTOCOLS),
    multiple=True,
    default=("single-box",),
    show_default=True,
    help="What to score and how; may be given several times.",
)
@click.option("--compare", type=click.File("rb"), help="Other groundings: paired differences with p-values.")
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="What FILE is written in.",
)
@click.option(
    "--frame",
    metavar="FRAME",
    show_default="original; of maira-2 crop, of radvlm normalised",
    help="What its boxes are measured in: original pixels, normalised, crop, letterbox:N, stretch:WxH.",
)
@click.option("--compare-format", type=click.Choice(FORMATS), default="jsonl", help="The same of --compare.")
@click.option("--compare-frame", metavar="FRAME", help="The same of --compare.")
@click.option(
    "--draws",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Draws of patients behind each 95 % interval.",
)
@options.seed
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the model that answered: patients that it was trained on are refused.",
)
@click.option(
    "--probes",
    is_flag=True,
    help="Ask --model about changed images and words: FILE holds the phrases, with boxes.",
)
@click.option("--allow-leakage", is_flag=True, help="Score patients of the training too; marks each score.")
@click.option("--table", is_flag=True, help="A table for people, on stdout with -o FILE, else stderr.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="A page with pictures.")
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
    """Score groundings, or anatomy, against boxes that people drew.

    Reads what ground wrote and the truth, both held in memory, and writes one figure a line, with its 95 %
    interval over patients, for all phrases, each category (macro: their mean), each side word and more. With
    --train, beside it stands what a box learned without looking at images would score. With the protocol
    anatomy, all files hold what detect-anatomy writes; with heatmap, FILE is an .npz or .safetensors file
    with an array named by each phrase_id.

    With --probes, FILE holds the phrases, and a model is asked about them with their images and words changed
    (blank, mirrored, another patient's; the other side, negated, a synonym, and these two once more in words
    that finetune never makes up): how far its answers move.

    \b
        $ medground evaluate groundings.jsonl --truth test.jsonl --train train.jsonl
        {"protocol":"single-box","metric":"miou","group":"all","value":0.5,...}
        $ medground evaluate test.jsonl --probes --model runs/finetuned --images films --table
    """
    for key in ("format", "compare_format"):
        given[key] = (given[key], given.pop(key.replace("format", "frame")))
    _refuse_mixtures(set(protocols), given)
    options.refuse_two_stdins(records, *(given[key] for key in ("truth", "train", "compare") if given[key]))
    scores = _scores(records, protocols, images, given)
    from medground import jsonl

    with jsonl.create(output) as stream:
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
    asked, device = given.pop("probes"), given.pop("device")
    if not asked:
        return run.evaluate_files(
            run.Inputs(predictions=records, bad_lines=bad_lines, **given), protocols, how
        )
    from medground.cli import evaluate_probes

    inputs = run.Inputs(predictions=records, bad_lines=bad_lines, **(given | {"truth": records}))
    return evaluate_probes.evaluate(given["model"], images, device, inputs, how)


def _refuse_mixtures(protocols: set[str], given: dict[str, Any]) -> None:
    """Raise for what does not go together, before anything is read."""
    if given["probes"]:
        _refuse_beside_probes(given)
    elif not given["truth"]:
        raise click.UsageError("Missing option '--truth'.")
    alone = " and ".join(ALONE)
    if len(protocols) > 1 and protocols & set(ALONE):
        raise click.UsageError(f"the protocols {alone} stand alone: their files differ")
    if given["split"] and "anatomy" in protocols:
        raise click.UsageError("the protocol anatomy takes no --split")
    for kind, frame in (given["format"], given["compare_format"]):
        if protocols & set(ALONE) and (kind, frame) not in (("jsonl", None), ("jsonl", "original")):
            raise click.UsageError(f"the protocols {alone} take no --format and no --frame")
        if frame not in SHARES.get(kind, (frame,)):
            raise click.UsageError(f"{kind} speaks in shares: its --frame is crop or normalised")


def _refuse_beside_probes(given: dict[str, Any]) -> None:
    if given["truth"] or given["compare"]:
        raise click.UsageError("--probes asks the model itself: leave out --truth and --compare")
    if not given["model"]:
        raise click.UsageError("--probes needs --model DIR, the model to ask")
    source = click.get_current_context().get_parameter_source
    named = {"protocols": "--protocol", "format": "--format", "frame": "--frame"}
    for key, flag in named.items():
        if source(key) not in (ParameterSource.DEFAULT, None):
            raise click.UsageError(f"--probes has figures of its own: leave out {flag}")
