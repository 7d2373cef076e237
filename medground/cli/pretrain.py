"""medground pretrain: pairs and anatomy -> a pre-trained grounding model."""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options, training, training_options
from medground.cli.command import DATA, FILES, OBJECTIVE, command, option
from medground.cli.named import Named

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
    type=Named(registry.OBJECTIVES, lambda entry: registry.PRETRAIN in entry.stages),
    multiple=True,
    default=["agp"],
    show_default=True,
    group=OBJECTIVE,
    help="Pre-training objective; repeat to add their losses.",
)
@training_options.init_from
@training_options.paraphrases
@training_options.options(steps=20_000, batch_size=16, lr=5e-4, save_every=500)
@options.rejects
@training.may_be_stopped
def pretrain(
    records: BinaryIO,
    init_from: Path | None,
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

    Only objectives that train boxes, such as agp, give a model that ground can use without fine-tuning.

    Reads pairs, as align writes them, into memory. The run folder holds config.toml, metrics.jsonl, the model
    and resume.safetensors. Run the same command again to continue. SIGTERM and SIGUSR1 save and exit with 75.
    Recipes for --config: agp-pretrain, agp-mdetr, mdetr, asg, gk-mvlp.

    \b
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --images images -o runs/agp
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --report-sentences sentences.jsonl \\
            --images images --objective agp --objective asg --loss-weight irl=5 -o runs/asg
    """
    from medground import boxes, jsonl, leakage
    from medground.data import examples, packed, packing, paraphrasing, splits
    from medground.records import Anatomy, Pair, Phrase, Sentence
    from medground.reports.parser import Parser

    inputs = (records, anatomy, report_sentences, exclude_held_out, val)
    options.refuse_two_stdins(*(each for each in inputs if each))
    if init_from:
        training.follow(init_from, chosen)
    training.check(**chosen)
    reads = _reads_reports(chosen["objective"], report_sentences)
    _check_counts(**chosen)
    _check_validation(val, **chosen)
    bad_lines = jsonl.BadLines(rejects)
    found = packed.ByImage()
    packing.add_pairs(
        jsonl.scan(records, Pair, bad_lines, boxes.check_pair), found, anatomy is None, reads, synonyms
    )
    if anatomy:
        packing.add_anatomy(jsonl.scan(anatomy, Anatomy, bad_lines), found, synonyms)
    if report_sentences:
        examples.from_sentences(jsonl.scan(report_sentences, Sentence, bad_lines), found)
    parts = splits.by_split(jsonl.read(exclude_held_out, Phrase, bad_lines)) if exclude_held_out else {}
    checked = list(jsonl.read(val, Phrase, bad_lines, boxes.check_phrase)) if val else []
    held_out = [*parts.get("val", ()), *parts.get("test", ())]
    if exclude_held_out and not held_out:
        log.warning("--exclude-held-out: no phrase has the split val or test, so no subject is excluded")
    validation = _validation(checked, chosen["images"]) if val else []
    out = leakage.whole_patients(found.heads(), [*held_out, *checked])
    for image_id in [each.image_id for each in found.heads() if each in out]:
        del found[image_id]
    if paraphrases:
        paraphrasing.reword(found.values(), paraphrases, Parser())
    wording = {"synonyms": synonyms, "paraphrases": paraphrases}
    training.run(found.packed(), validation, init_from, chosen=wording, **chosen)


def _reads_reports(objectives: tuple[str, ...], reports: BinaryIO | None) -> bool:
    """Return whether an objective uses reports; raise UsageError for reports that none uses."""
    reads = any(registry.OBJECTIVES[name].reads_reports for name in objectives)
    if reports and not reads:
        raise click.UsageError(f"--report-sentences requires {_objectives(reads_reports=True)}")
    if not _trains_boxes(objectives):
        boxes = _objectives(trains_boxes=True)
        log.warning("without %s no boxes are trained: finetune the model before ground", boxes)
    return reads


def _objectives(**fields: Any) -> str:
    """Return the option with the names of the pre-training objectives with these fields."""
    names = registry.OBJECTIVES.where(**fields)
    own = [name for name in names if registry.PRETRAIN in registry.OBJECTIVES[name].stages]
    return f"--objective {registry.one_of(own)}"


def _trains_boxes(objectives: tuple[str, ...]) -> bool:
    return any(registry.OBJECTIVES[name].trains_boxes for name in objectives)


def _check_validation(
    val: BinaryIO | None, objective: tuple[str, ...], patience: int | None, **_: Any
) -> None:
    """Raise UsageError for validation without a box objective, or patience without validation."""
    if val and not _trains_boxes(objective):
        raise click.UsageError(
            f"--val measures boxes, which no objective trains: add {_objectives(trains_boxes=True)}"
        )
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
    """Raise UsageError if an objective would have no phrases to train on."""
    fused = [name for name in objective if registry.OBJECTIVES[name].fuses]
    if fused and not max_terms and not max_sentences:
        raise click.UsageError(f"--max-terms 0 with --max-sentences 0 leaves {fused[0]} nothing to train on")
