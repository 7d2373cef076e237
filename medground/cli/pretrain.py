"""medground pretrain: pairs and anatomy -> a model that knows where the parts of the chest are."""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options, training

log = logging.getLogger(__name__)
NONE_OR_MORE = click.IntRange(min=0)


@click.command()
@options.records
@click.option(
    "--anatomy",
    type=click.File("rb"),
    help="Anatomy records: the names of all their regions are learned too, not only the pairs' own.",
)
@click.option(
    "--reports",
    type=click.File("rb"),
    help="Sentences, as parse-reports writes them: whole reports for asg and gk-mvlp, joined by study_id. "
    "Without it a report is what its pairs say.",
)
@click.option(
    "--leave-out",
    type=click.File("rb"),
    help="Phrases that finetune is to read: their patients of validation and test are not trained on.",
)
@click.option(
    "--validate",
    type=click.File("rb"),
    help="Phrases with boxes: the model with their best mean IoU is kept, and --patience may end the run. "
    "Their patients are not trained on.",
)
@click.option(
    "--terms",
    type=NONE_OR_MORE,
    default=6,
    show_default=True,
    help="Most region names asked of an image in a step.",
)
@click.option(
    "--sentences",
    type=NONE_OR_MORE,
    default=4,
    show_default=True,
    help="Most sentences asked of an image in a step.",
)
@click.option(
    "--synonyms/--no-synonyms",
    default=True,
    show_default=True,
    help="Ask for a region by other words for it too, or by its name alone.",
)
@click.option(
    "--objective",
    type=click.Choice(["agp", "asg", "gk-mvlp", "gk-mvlp-unmasked"]),
    multiple=True,
    default=["agp"],
    show_default=True,
    help="What to learn; may be given again: all losses are added.",
)
@training.paraphrases
@training.options(steps=20_000, batch=16, rate=5e-4, save_every=500)
@options.rejects
@training.may_be_stopped
def pretrain(
    records: BinaryIO,
    anatomy: BinaryIO | None,
    reports: BinaryIO | None,
    leave_out: BinaryIO | None,
    validate: BinaryIO | None,
    synonyms: bool,
    paraphrases: int,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> None:
    """Train a grounding model on anatomy and reports.

    agp: region names and sentences to region boxes. asg: images and regions to reports and sentences, with
    40 tags. gk-mvlp: knowledge of findings grounded in regions, a reconstruction; its unmasked twin lets a
    finding look at every region. Objectives may be combined; only agp teaches a model to answer with boxes.

    Reads pairs, as align writes them, and holds them in memory. The run folder holds config.toml,
    metrics.jsonl, the model, and resume.safetensors: the same command again goes on from there.
    SIGTERM and SIGUSR1 save and exit with 75. The weights of losses, as published: l1 5, giou 2 (agp); ira 1,
    arsa 1, irl 5, erl 1 (asg); itc, itm, lm, ecls 1 (gk-mvlp). Ours, beside agp's: present 1 and, of mdetr,
    score 1, near 1.

    \b
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --images films -o runs/agp
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --reports sentences.jsonl --images films \\
            --objective agp --objective asg --weight irl=5 -o runs/asg
    """
    from medground import jsonl, leakage
    from medground.data import examples, paraphrasing, splits
    from medground.records import Anatomy, Pair, Phrase, Sentence
    from medground.reports.parser import Parser

    options.refuse_two_stdins(*(each for each in (records, anatomy, reports, leave_out, validate) if each))
    training.check(**chosen)
    reads = _reads_reports(chosen["objective"], reports)
    _check_asks(**chosen)
    _check_validation(validate, **chosen)
    bad_lines = jsonl.BadLines(rejects)
    found: dict[str, examples.Example] = {}
    examples.from_pairs(jsonl.read(records, Pair, bad_lines), found, anatomy is None, reads, synonyms)
    if anatomy:
        examples.from_anatomy(jsonl.read(anatomy, Anatomy, bad_lines), found, synonyms)
    if reports:
        examples.from_sentences(jsonl.read(reports, Sentence, bad_lines), found)
    parts = splits.by_split(jsonl.read(leave_out, Phrase, bad_lines)) if leave_out else {}
    checked = list(jsonl.read(validate, Phrase, bad_lines)) if validate else []
    held_out = [*parts.get("val", ()), *parts.get("test", ())]
    if leave_out and not held_out:
        log.warning("--leave-out: no phrase has the split val or test, so nobody is left out")
    asked = _asked(checked, chosen["images"]) if validate else []
    learned = leakage.without(found.values(), [*held_out, *checked])
    if paraphrases:
        paraphrasing.reword(learned, paraphrases, Parser())
    told = {"synonyms": synonyms, "paraphrases": paraphrases}
    training.run(learned, asked, None, chosen=told, **chosen)


def _reads_reports(objectives: tuple[str, ...], reports: BinaryIO | None) -> bool:
    """Whether one of the objectives reads reports; refuses reports that none would read."""
    reads = set(objectives) != {"agp"}
    if reports and not reads:
        raise click.UsageError("--reports is for asg and gk-mvlp: name one with --objective")
    if "agp" not in objectives:
        log.warning("without agp no box is learned: finetune the model before it grounds anything")
    return reads


def _check_validation(
    validate: BinaryIO | None, objective: tuple[str, ...], patience: int | None, **_: Any
) -> None:
    """Refuse a validation of boxes that nothing teaches, and patience without a validation."""
    if validate and "agp" not in objective:
        raise click.UsageError(
            "--validate looks at boxes, and only agp teaches them: give --objective agp too"
        )
    if patience and not validate:
        raise click.UsageError("--patience is counted in validations: give --validate")


def _asked(phrases: list[Any], images: Path) -> list[Any]:
    """The examples to validate on, with every box of a phrase; refuses those that would measure nothing."""
    from medground.data import examples
    from medground.errors import MedgroundError

    asked = examples.from_phrases(phrases, examples.Sizes(images), "all")
    if not any(query.boxes for each in asked for query in each.sentences):
        raise MedgroundError("--validate: no phrase has a box, so there is nothing to measure")
    return asked


def _check_asks(objective: tuple[str, ...], terms: int, sentences: int, **_: Any) -> None:
    """Refuse an agp that would have nothing to learn from."""
    if "agp" in objective and not terms and not sentences:
        raise click.UsageError("agp asks nothing with --terms 0 and --sentences 0")
