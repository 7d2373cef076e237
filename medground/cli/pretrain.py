"""medground pretrain: pairs and anatomy -> a pre-trained grounding model."""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options, training, training_options
from medground.cli.command import DATA, FILES, OBJECTIVE, command, option

log = logging.getLogger(__name__)


@command()
@options.records
@option(
    "--anatomy",
    type=click.File("rb"),
    group=FILES,
    help="Region boxes; also train on the names of all their regions.",
)
@option(
    "--report-sentences",
    type=click.File("rb"),
    old=["--reports"],
    group=FILES,
    help="Sentences of whole reports, for asg and gk-mvlp.",
)
@option(
    "--exclude-held-out",
    type=click.File("rb"),
    old=["--leave-out"],
    group=FILES,
    help="Phrases; exclude their validation and test subjects from training.",
)
@option(
    "--val",
    type=click.File("rb"),
    old=["--validate"],
    group=FILES,
    help="Validation phrases with boxes; keep the best model.",
)
@option(
    "--max-terms",
    type=options.NONE_OR_MORE,
    default=6,
    show_default=True,
    old=["--terms"],
    group=DATA,
    help="Most region names per image and step.",
)
@option(
    "--max-sentences",
    type=options.NONE_OR_MORE,
    default=4,
    show_default=True,
    old=["--sentences"],
    group=DATA,
    help="Most sentences per image and step.",
)
@option(
    "--synonyms/--no-synonyms",
    default=True,
    show_default=True,
    group=DATA,
    help="Also use synonyms of region names.",
)
@option(
    "--objective",
    type=click.Choice(["agp", "asg", "gk-mvlp", "gk-mvlp-unmasked"]),
    multiple=True,
    default=["agp"],
    show_default=True,
    group=OBJECTIVE,
    help="Pre-training objective; repeat to add their losses.",
)
@training_options.paraphrases
@training_options.options(steps=20_000, batch_size=16, lr=5e-4, save_every=500)
@options.rejects
@training.may_be_stopped
def pretrain(
    records: BinaryIO,
    anatomy: BinaryIO | None,
    report_sentences: BinaryIO | None,
    exclude_held_out: BinaryIO | None,
    val: BinaryIO | None,
    synonyms: bool,
    paraphrases: int,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> None:
    """Pre-train a grounding model on anatomy and reports.

    Objectives: agp matches region names and sentences to region boxes; asg matches images and regions to
    reports and sentences, and predicts 40 tags; gk-mvlp grounds knowledge of findings in regions (a
    reconstruction); gk-mvlp-unmasked lets a finding attend to every region. Only agp trains box prediction.

    Reads pairs, as align writes them, into memory. The run folder holds config.toml, metrics.jsonl, the model
    and resume.safetensors. Run the same command again to continue. SIGTERM and SIGUSR1 save and exit with 75.
    Default loss weights: l1 5, giou 2, present 1, and for mdetr score 1, near 1 (agp); ira 1, arsa 1, irl 5,
    erl 1 (asg); itc, itm, lm, ecls 1 (gk-mvlp). Recipes for --config: agp-pretrain, mdetr.

    \b
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --images images -o runs/agp
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --report-sentences sentences.jsonl \\
            --images images --objective agp --objective asg --loss-weight irl=5 -o runs/asg
    """
    from medground import jsonl, leakage
    from medground.data import examples, paraphrasing, splits
    from medground.records import Anatomy, Pair, Phrase, Sentence
    from medground.reports.parser import Parser

    inputs = (records, anatomy, report_sentences, exclude_held_out, val)
    options.refuse_two_stdins(*(each for each in inputs if each))
    training.check(**chosen)
    reads = _reads_reports(chosen["objective"], report_sentences)
    _check_counts(**chosen)
    _check_validation(val, **chosen)
    bad_lines = jsonl.BadLines(rejects)
    found: dict[str, examples.Example] = {}
    examples.from_pairs(jsonl.read(records, Pair, bad_lines), found, anatomy is None, reads, synonyms)
    if anatomy:
        examples.from_anatomy(jsonl.read(anatomy, Anatomy, bad_lines), found, synonyms)
    if report_sentences:
        examples.from_sentences(jsonl.read(report_sentences, Sentence, bad_lines), found)
    parts = splits.by_split(jsonl.read(exclude_held_out, Phrase, bad_lines)) if exclude_held_out else {}
    checked = list(jsonl.read(val, Phrase, bad_lines)) if val else []
    held_out = [*parts.get("val", ()), *parts.get("test", ())]
    if exclude_held_out and not held_out:
        log.warning("--exclude-held-out: no phrase has the split val or test, so no subject is excluded")
    validation = _validation(checked, chosen["images"]) if val else []
    learned = leakage.without(found.values(), [*held_out, *checked])
    if paraphrases:
        paraphrasing.reword(learned, paraphrases, Parser())
    wording = {"synonyms": synonyms, "paraphrases": paraphrases}
    training.run(learned, validation, None, chosen=wording, **chosen)


def _reads_reports(objectives: tuple[str, ...], reports: BinaryIO | None) -> bool:
    """Return whether an objective uses reports; raise UsageError for reports that none uses."""
    reads = set(objectives) != {"agp"}
    if reports and not reads:
        raise click.UsageError("--report-sentences requires --objective asg or gk-mvlp")
    if "agp" not in objectives:
        log.warning("without --objective agp no boxes are trained: finetune the model before ground")
    return reads


def _check_validation(
    val: BinaryIO | None, objective: tuple[str, ...], patience: int | None, **_: Any
) -> None:
    """Raise UsageError for validation without a box objective, or patience without validation."""
    if val and "agp" not in objective:
        raise click.UsageError("--val measures boxes, which only agp trains: add --objective agp")
    if patience and not val:
        raise click.UsageError("--patience counts validations: give --val")


def _validation(phrases: list[Any], images: Path) -> list[Any]:
    """Return the validation examples, with all boxes of a phrase; raise MedgroundError without any box."""
    from medground.data import examples
    from medground.errors import MedgroundError

    found = examples.from_phrases(phrases, examples.Sizes(images), "all")
    if not any(query.boxes for each in found for query in each.sentences):
        raise MedgroundError("--val: no phrase has a box, so there is nothing to measure")
    return found


def _check_counts(objective: tuple[str, ...], max_terms: int, max_sentences: int, **_: Any) -> None:
    """Raise UsageError if agp would have nothing to train on."""
    if "agp" in objective and not max_terms and not max_sentences:
        raise click.UsageError("--max-terms 0 with --max-sentences 0 leaves agp nothing to train on")
