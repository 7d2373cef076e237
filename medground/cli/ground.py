"""medground ground: phrases, images and a model -> boxes."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medground import registry
from medground.cli import ending, options, output_formats
from medground.cli.command import FILES, MODEL, command, option

if TYPE_CHECKING:
    from medground.grounding.loading import Ready
    from medground.records import Phrase


@command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("words", metavar="[PHRASE]...", nargs=-1)
@options.model(help="Folder of pretrain, finetune, export or transformers  [default: example]")
@option(
    "--phrases",
    "records",
    type=click.File("rb"),
    default="-",
    old_keys=["records"],
    group=FILES,
    help="Phrase records, without IMAGE  [default: stdin]",
)
@option("--report", type=click.File("rb"), group=FILES, help="Report of IMAGE; localize each finding in it.")
@options.images
@output_formats.output_format("jsonl")
@output_formats.pictures
@option(
    "--backend",
    type=click.Choice(["auto", "torch", "exported", "bf16"]),
    default="auto",
    show_default=True,
    old=["--engine"],
    group=MODEL,
    help="auto: exported or torch; bf16: less exact, fast on CPUs with AMX.",
)
@option(
    "--trust-remote-code",
    is_flag=True,
    group=MODEL,
    help="Run code in the folder of a model of transformers.",
)
@option(
    "--prompt",
    metavar="TEMPLATE",
    group=MODEL,
    help="Prompt of a model of transformers, with {phrase} for the phrase  [default: the adapter's]",
)
@option(
    "--calibration/--no-calibration",
    default=True,
    show_default=True,
    old={"--calibrated": True, "--raw": False},
    group=MODEL,
    help="Calibrate scores if the model has a calibration.",
)
@option(
    "--flip-correction/--no-flip-correction",
    default=True,
    show_default=True,
    old={"--as-hung": False},
    group=MODEL,
    help="Correct flipped images if the model has flip correction.",
)
@option(
    "--coverage",
    type=options.OPEN_SHARE,
    metavar="SHARE",
    group=MODEL,
    help="Widen boxes to contain this share of true boxes.",
)
@option(
    "--min-score",
    type=options.SHARE,
    group=MODEL,
    help="Minimum score of a phrase's further boxes (default: 0.5).",
)
@option(
    "--min-present",
    type=options.SHARE,
    group=MODEL,
    help="Minimum `present` of a phrase; its boxes are dropped below.",
)
@options.any_view(help="Do not check whether images are frontal chest X-rays.")
@options.device
@options.config
@options.shard
@options.resume
@options.rejects
@options.output
def ground(image: Path | None, words: tuple[str, ...], **chosen: Any) -> None:
    """Localize phrases on chest X-rays.

    Input is one IMAGE with PHRASEs or a --report, or phrase records from stdin or --phrases. Consecutive
    phrases of one image share its encoding. Writes groundings: boxes in pixels of the original image, best
    first, and `present`, the probability that the finding is visible. The highest-scoring box is always
    written, even if `present` is low. Findings that the report marks as absent get an empty box list. On an
    image that is probably not a single upright frontal chest X-ray, records have "other" as `view`.
    FOLDER may also be a model of transformers, such as Grounding DINO or Qwen2.5-VL (docs/other-models.md).

    \b
        $ medground ground --model runs/finetuned image.png "right lower lobe opacity"
        $ medground ground --model runs/finetuned image.png --report report.txt --html found.html
        $ medground ground --model models/owlv2 image.png "opacity" --prompt "chest X-ray with {phrase}"
        $ medground ground --model runs/finetuned --images images --phrases phrases.jsonl -o found.jsonl
    """
    _refuse_mixtures(image, words, chosen)
    if chosen["prompt"] is not None and "{phrase}" not in chosen["prompt"]:
        raise click.UsageError("--prompt TEMPLATE lacks {phrase}, the place of the phrase")
    output_formats.refuse(chosen)
    _ground(image, words, **chosen)


def _ground(image: Path | None, words: tuple[str, ...], **chosen: Any) -> None:
    ready = _start(**chosen)  # the imports overlap with it
    from medground import console, jsonl
    from medground.grounding import outputs, predict, resume

    bad_lines, folder = jsonl.BadLines(chosen["rejects"]), chosen["images"]
    phrases = chosen["shard"].keep(_phrases(image, words, bad_lines, **chosen))
    model = ready(image and image.absolute())
    ending.keep(model)
    limits = model.options(**{name: chosen[name] for name in ("coverage", "min_score", "min_present")})

    def found(phrases: Iterable[Any]) -> Iterable[Any]:
        grounded = model.ground(phrases, folder, bad_lines.take_record, limits)
        shown = console.progress(grounded, "phrases")
        return outputs.with_pictures(shown, folder, output_formats.pictures_of(chosen))

    if not registry.OUTPUT_FORMATS[chosen["output_format"]].resumable:
        outputs.write(found(phrases), chosen["output"], chosen["output_format"], folder)
        return
    stated = {"model": model.name, "prompt": chosen["prompt"]} | predict.option_keys(limits)
    earlier = resume.Earlier(chosen["output"], stated)
    with earlier.continued(options.task(), chosen["resume"]) as (stream, follow):
        read = follow(phrases, options.size_of_image(folder))
        rest = earlier.rest(read, skipping=bad_lines.rejects is not None)
        jsonl.write(stream, (grounding for _, grounding in found(rest)), every=0)


def _start(**chosen: Any) -> "Ready":
    """Begin to load the model of the folder, or of transformers; return the function that returns it."""
    from medground.grounding.loading import start

    _refuse_options(chosen)
    how = {name: chosen[name] for name in ("backend", "calibration", "flip_correction", "any_view")}
    how |= {name: chosen[name] for name in ("trust_remote_code", "prompt")}
    return start(chosen["model"] or "example", device=options.device_of(chosen["device"]), **how)


def _refuse_options(chosen: dict[str, Any]) -> None:
    """Raise UsageError for an option that the model in the folder cannot have."""
    foreign = None
    if chosen["model"]:
        from medground.grounding.adapters import sources

        foreign = sources.read_config(chosen["model"])
    if foreign and chosen["backend"] not in ("auto", "torch"):
        raise click.UsageError(f"--backend {chosen['backend']}: models of transformers run with torch")
    if not foreign and chosen["prompt"] is not None:
        raise click.UsageError("--prompt is for models of transformers")


def _phrases(image: Path | None, words: tuple[str, ...], bad_lines: Any, **chosen: Any) -> "Iterable[Phrase]":
    """Return the phrases to localize; a report is parsed here."""
    from medground import jsonl
    from medground.grounding import outputs, phrases
    from medground.records import Phrase

    if image is None:
        return jsonl.read(chosen["records"], Phrase, bad_lines, phrases.refuse_empty)
    outputs.check(image, chosen["output_format"])
    if not chosen["report"]:
        return phrases.phrases_of(image, words)
    report = chosen["report"]
    return list(phrases.phrases_of_report(image, phrases.sentences_of_file(report, jsonl.name_of(report))))


def _refuse_mixtures(image: Path | None, words: tuple[str, ...], chosen: dict[str, Any]) -> None:
    """Raise UsageError for options that cannot be combined, before anything is loaded."""
    if image and options.is_given("records"):
        raise click.UsageError("--phrases names the images itself: leave out IMAGE")
    if image and bool(words) == bool(chosen["report"]):
        raise click.UsageError("IMAGE requires either PHRASEs or --report")
    if not all(map(str.strip, words)):
        raise click.UsageError("PHRASE is empty")
    if chosen["report"] and not image:
        raise click.UsageError("--report requires an IMAGE")
    if chosen["coverage"] is not None:
        if not chosen["calibration"]:
            raise click.UsageError("--coverage requires the calibration: leave out --no-calibration")
        if chosen["min_score"] is not None or chosen["min_present"] is not None:
            raise click.UsageError("--coverage is about all boxes: leave out --min-score and --min-present")
    entry = registry.OUTPUT_FORMATS[chosen["output_format"]]
    if chosen["resume"] and (chosen["output"] == "-" or not entry.resumable):
        resumable = registry.one_of(registry.OUTPUT_FORMATS.where(resumable=True))
        raise click.UsageError(f"--resume requires -o FILE and --output-format {resumable}")
    if chosen["resume"] and (chosen["html"] or chosen["heatmap"]):
        raise click.UsageError("--resume cannot be combined with --html or --heatmap")
