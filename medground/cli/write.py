"""medground write: images and a pre-trained model -> reports."""

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options
from medground.cli.command import DATA, FILES, MODEL, command, option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medground.downstream.report_writing import ReportModel
    from medground.records import Report


@command()
@click.argument("listed", metavar="[LIST]", type=click.Path(exists=True, allow_dash=True), default="-")
@options.config
@options.images
@option(
    "--model",
    metavar="FOLDER",
    type=options.GROUNDER,
    required=True,
    group=MODEL,
    help="Folder of pretrain with gk-mvlp or writer.",
)
@option("--anatomy", type=click.File("rb"), group=FILES, help="Region boxes of the images, for gk-mvlp.")
@option(
    "--val",
    type=click.File("rb"),
    group=FILES,
    help="Sentences of validation reports, for the best thresholds of gk-mvlp's findings.",
)
@option(
    "--beams",
    type=options.Integer(min=1, largest=64),
    default=3,
    show_default=True,
    group=DATA,
    help="Beams of the search; 1 is greedy.",
)
@option(
    "--length-penalty",
    type=options.Number(min=0),
    default=1.0,
    show_default=True,
    group=DATA,
    help="Power of the length that divides a score; 0 favors short reports.",
)
@option(
    "--max-tokens",
    type=options.Integer(min=1, largest=160),
    default=160,
    show_default=True,
    group=DATA,
    help="Most tokens of a report.",
)
@options.batch_size
@options.shard
@options.resume
@options.device
@options.rejects
@options.output
def write(listed: str, rejects: BinaryIO | None, output: str, resume: bool, **given: Any) -> None:
    """Write reports for chest X-rays.

    LIST is a folder, an image, a file with one path per line, or JSON lines with image_id and path. Writes
    one report per image, with all keys of its line, for parse-reports and for evaluate --protocol reports.
    A report has each sentence once: repetitions are left out. The output does not depend on --batch-size. To
    train a writer on any frozen encoder: pretrain --objective writer --freeze image-encoder.

    \b
        $ medground write images.jsonl --model runs/gk-mvlp --images images --anatomy boxes.jsonl \\
            --resume -o written.jsonl
        $ medground write images/ --model runs/writer --beams 1 | medground parse-reports -o sentences.jsonl
    """
    from medground import jsonl
    from medground.anatomy import listing
    from medground.downstream import report_writing
    from medground.errors import require_good

    bad_lines, folder = jsonl.BadLines(rejects), given["images"]
    if given["val"] and not given["anatomy"]:
        raise click.UsageError("--val requires --anatomy, which names the images")
    if given["anatomy"] and listed == "-":
        options.refuse_two_stdins(given["anatomy"], sys.stdin.buffer)
    model: ReportModel = report_writing.load(given["model"], options.device_of(given["device"]))
    with options.journal(output, resume, weights=model.name) as journal:
        read = given["shard"].keep(listing.open_list(listed, folder, bad_lines))
        good, done = 0, journal.done
        for report in _written(journal.rest(read), model, bad_lines, **given):
            journal.add(jsonl.dumps(report) if report else b"")
            good += report is not None
        require_good(good + done, journal.done - done - good, listed, "image")


def _written(
    listed: "Iterable[Any]", writer: "ReportModel", bad_lines: Any, **given: Any
) -> "Iterator[Report | None]":
    """Return the report of each image, None for a rejected one."""
    from medground import console, jsonl
    from medground.downstream import report_writing
    from medground.records import Anatomy

    anatomy = given["anatomy"]
    found = {each.image_id: each for each in jsonl.read(anatomy, Anatomy, bad_lines)} if anatomy else {}
    if given["val"]:
        _tune(writer, found, bad_lines, given)
    how = writer.decoding(given["max_tokens"], given["beams"], given["length_penalty"])
    written = report_writing.write(
        listed, writer, given["images"], found, how, bad_lines.take_record, given["batch_size"]
    )
    return console.progress(written, "reports")


def _tune(writer: "ReportModel", anatomy: dict[str, Any], bad_lines: Any, given: dict[str, Any]) -> None:
    """Set the thresholds of the writer's findings by the validation reports."""
    from medground import console, jsonl, leakage
    from medground.downstream import finding_thresholds
    from medground.records import Sentence

    sentences = jsonl.read(given["val"], Sentence, bad_lines)
    images = finding_thresholds.validation_images(sentences, anatomy)
    leaks = leakage.with_model({"val": [each for each, _ in images]}, given["model"])
    leakage.check(leaks, False, "give the sentences of other reports")
    finding_thresholds.fit(
        writer,
        images,
        given["images"],
        given["batch_size"],
        lambda found: console.progress(found, "validation batches"),
    )
