"""medground compare: groundings of several models and truth -> scores and paired differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options
from medground.cli.command import DATA, FILES, command, option
from medground.cli.named import Named

PHRASES = Named(registry.PROTOCOLS, lambda entry: entry.reads == "phrases")


@command()
@click.argument("files", metavar="FILE FILE...", type=click.File("rb"), nargs=-1, required=True)
@option("--truth", type=click.File("rb"), required=True, group=FILES, help="Phrases with ground-truth boxes.")
@option("--train", type=click.File("rb"), group=FILES, help="Training phrases; adds an image-free baseline.")
@option(
    "--name",
    "names",
    multiple=True,
    group=FILES,
    help="Name of a model, once per FILE (default: file names).",
)
@option("--reference", metavar="NAME", group=FILES, help="Model to compare with (default: the first).")
@option(
    "--input-format",
    "formats",
    type=Named(registry.PREDICTION_FORMATS),
    multiple=True,
    default=("jsonl",),
    show_default=True,
    group=FILES,
    help="Format of the FILEs: one for all, or one each.",
)
@option(
    "--coordinates",
    "frames",
    metavar="SYSTEM",
    multiple=True,
    group=FILES,
    help="Box coordinates of the FILEs: one for all, or one each.",
)
@option(
    "--output-format",
    type=click.Choice(["jsonl", "markdown", "latex", "html"]),
    default="jsonl",
    show_default=True,
    group=FILES,
    help="Scores as JSON lines, or a table.",
)
@option(
    "--group",
    "groups",
    metavar="NAME",
    multiple=True,
    default=("all", "macro"),
    show_default=True,
    group=FILES,
    help="Group of phrases in a table; repeatable.",
)
@option(
    "--protocol",
    "protocols",
    type=PHRASES,
    multiple=True,
    default=("single-box",),
    show_default=True,
    group=DATA,
    help="Evaluation protocol; repeatable.",
)
@options.coco_images
@options.scored_split
@options.scored_leakage
@option(
    "--bootstrap-samples",
    "draws",
    type=options.Integer(min=100, largest=10_000_000),
    default=10_000,
    show_default=True,
    group=DATA,
    help="Bootstrap samples of subjects per 95 % interval.",
)
@options.seed
@options.config
@options.rejects
@options.output
def compare(
    files: Sequence[BinaryIO],
    names: Sequence[str],
    output_format: str,
    groups: Sequence[str],
    output: str,
    **given: Any,
) -> None:
    """Compare the predictions of several models on the same phrases.

    Writes the scores of each model, and its paired differences to the reference. Their p-values are corrected
    for the number of models (Holm). A table has one row per model.

    \b
        $ medground compare agp.jsonl transvg.jsonl --truth test.jsonl --output-format markdown
        | model | single-box miou | difference | ...
        $ medground compare ours.jsonl theirs.csv --input-format jsonl --input-format csv \\
            --truth test.jsonl --protocol single-box --protocol coco -o scores.jsonl
    """
    names = _names(files, names)
    options.refuse_two_stdins(
        *files, *(given[key] for key in ("truth", "train", "coco_images") if given[key])
    )
    if given["reference"] is not None and given["reference"] not in names:
        raise click.UsageError(f"--reference {given['reference']}: the models are {', '.join(names)}")
    scores = _scores(dict(zip(names, files, strict=True)), **given)
    if output_format != "jsonl" and options.is_given("groups"):
        _refuse_unknown(groups, scores)
    from medground import jsonl, output_files

    with output_files.create(output) as stream:
        if output_format == "jsonl":
            jsonl.write(stream, scores)
        else:
            from medground.evaluation.report import comparison

            table = comparison.FORMATS[output_format](comparison.of(scores, groups))
            stream.write(table.encode())


def _refuse_unknown(groups: Sequence[str], scores: Any) -> None:
    """Raise BadParameter for a group that no score has: a table would leave it out."""
    known = dict.fromkeys(each.group for each in scores)
    for name in groups:
        if name not in known:
            raise click.BadParameter(
                f"no score has the group {name!r}; known are {', '.join(known)}", param_hint="--group"
            )


def _names(files: Sequence[BinaryIO], names: Sequence[str]) -> list[str]:
    """Return a name for each file; raise UsageError if they do not fit or are not distinct."""
    if len(files) < 2:
        raise click.UsageError("a comparison needs at least two FILEs")
    found = list(names) or [Path(str(each.name)).stem for each in files]
    if len(found) != len(files):
        raise click.UsageError(f"--name: expected {len(files)} names, one per FILE, found {len(found)}")
    if len(set(found)) < len(found):
        raise click.UsageError(f"two models have the name {_repeated(found)}: give --name for each FILE")
    return found


def _repeated(names: Sequence[str]) -> str:
    return next(each for each in names if names.count(each) > 1)


def _each(given: Sequence[Any], count: int, flag: str, default: Any) -> list[Any]:
    """Return the values of a repeatable option, one per file."""
    if len(given) in (0, 1):
        return [*given, default][:1] * count
    if len(given) != count:
        raise click.UsageError(f"{flag}: expected one for all or {count}, one per FILE, found {len(given)}")
    return list(given)


def _scores(files: dict[str, BinaryIO], **given: Any) -> Any:
    """Return the scores of the files."""
    from medground import jsonl
    from medground.evaluation import comparison, run
    from medground.evaluation.inputs import coco_results, predictions

    images = given.pop("coco_images")
    listed = coco_results.image_names(images) if images else None
    bad_lines = jsonl.BadLines(given.pop("rejects"))
    formats = _each(given.pop("formats"), len(files), "--input-format", "jsonl")
    frames = _each(given.pop("frames"), len(files), "--coordinates", None)
    truth, train = (run.read_truth(given.pop(name), bad_lines) for name in ("truth", "train"))
    read = {
        name: predictions.read(stream, kind, frame, truth or [], bad_lines, listed)
        for (name, stream), kind, frame in zip(files.items(), formats, frames, strict=True)
    }
    return comparison.compare(read, truth or [], train=train, **given)
