"""medground finetune: phrases with annotated boxes -> a grounding model."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options, training, training_options
from medground.cli.command import DATA, FILES, OBJECTIVE, TRAINING, command, option
from medground.cli.named import Named

# Fields of splits.Choice.
SPLIT = ("val_subjects", "test_subjects", "num_folds", "fold", "num_phrases", "subject_fraction")
LEAKAGE = "split by subject, pretrain with --exclude-held-out, or give --allow-leakage to mark the model"


_SPLITTING = [
    option(
        "--val-subjects",
        type=options.FILE,
        group=DATA,
        help="Validation subject IDs, one per line; overrides `split` in records.",
    ),
    option(
        "--test-subjects",
        type=options.FILE,
        group=DATA,
        help="Test subject IDs, one per line; overrides `split` in records.",
    ),
    option(
        "--num-folds",
        type=options.Integer(min=3),
        old=["--folds"],
        group=DATA,
        help="Cross-validation folds by subject; ignores `split` in records.",
    ),
    option(
        "--fold",
        type=options.COUNT,
        group=DATA,
        help="Test fold, from 1; the next fold is for validation.",
    ),
    option(
        "--subject-fraction",
        type=options.Number(0, 1, min_open=True),
        old=["--fraction"],
        group=DATA,
        help="Train on this share of subjects, stratified by category.",
    ),
    option(
        "--num-phrases",
        type=options.COUNT,
        old=["--few"],
        group=DATA,
        help="Train on only N phrases, balanced over categories.",
    ),
    option(
        "--multi-box",
        type=click.Choice(["drop", "hull", "sides", "all"]),
        default="drop",
        show_default=True,
        group=DATA,
        help="How to use phrases with several boxes; see above.",
    ),
    option(
        "--allow-leakage",
        is_flag=True,
        group=DATA,
        help="Train despite subject overlap; the model records it.",
    ),
    option(
        "--save-held-out",
        metavar="FILE",
        type=options.OutputFile(),
        old=["--held-out"],
        group=FILES,
        help="Write the held-out phrases to this file.",
    ),
]
_REPLAY = [  # negatives, paraphrases and pre-training pairs, together with the phrases
    training_options.paraphrases,
    option(
        "--negative-prob",
        type=options.SHARE,
        default=0.5,
        show_default=True,
        old=["--negatives"],
        group=DATA,
        help="Probability of adding a negative query for each phrase.",
    ),
    option(
        "--rehearse", type=click.File("rb"), group=FILES, help="Pre-training pairs to replay with phrases."
    ),
    option(
        "--anatomy",
        type=click.File("rb"),
        group=FILES,
        help="Region boxes; with --rehearse, also replay all their regions.",
    ),
    option(
        "--rehearse-images",
        type=options.NONE_OR_MORE,
        default=4,
        show_default=True,
        group=DATA,
        help="Replayed images per step.",
    ),
    option(
        "--rehearse-terms",
        type=options.NONE_OR_MORE,
        default=2,
        show_default=True,
        group=DATA,
        help="Most region names per replayed image.",
    ),
    option(
        "--rehearse-sentences",
        type=options.NONE_OR_MORE,
        default=2,
        show_default=True,
        group=DATA,
        help="Most sentences per replayed image.",
    ),
]


@command()
@options.records
@training_options.init_from
@options.with_all(_SPLITTING)
@options.with_all(_REPLAY)
@option(
    "--objective",
    type=Named(registry.OBJECTIVES, lambda entry: registry.FINETUNE in entry.stages),
    multiple=True,
    default=["agp"],
    show_default=True,
    group=OBJECTIVE,
    help="Fine-tuning objective; repeat to add their losses.",
)
@option("--epochs", type=options.COUNT, group=TRAINING, help="Passes over the images, instead of --steps.")
@training_options.options(steps=2_000, batch_size=16, lr=2e-4, save_every=100)
@options.rejects
@training.may_be_stopped
def finetune(
    records: BinaryIO,
    init_from: Path | None,
    save_held_out: str | None,
    multi_box: str,
    allow_leakage: bool,
    rehearse: BinaryIO | None,
    anatomy: BinaryIO | None,
    epochs: int | None,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> None:
    """Fine-tune a grounding model on phrases with annotated boxes, such as MS-CXR.

    Trains on phrases whose `split` is train or missing. Keeps the model with the best mean IoU on those with
    split val or validate, or the last model without such phrases. Others are held out. Subjects may not
    overlap between parts, nor between held-out parts and the training data of --init-from.

    --multi-box: drop skips phrases with several boxes; hull takes one enclosing box; sides splits bilateral
    phrases into left and right, and takes the hull of others; all (mdetr only) trains on every box. --freeze
    visual: the layers between image encoder and fusion. Recipes for --config: agp-finetune,
    agp-mdetr, transvg, medrpg, mdetr.

    Run the same command again to continue. SIGTERM and SIGUSR1 save and exit with 75.

    \b
        $ medground finetune ms_cxr.jsonl --images images --init-from runs/agp -o runs/finetuned
        $ medground finetune ms_cxr.jsonl --images images --num-folds 5 --fold 1 \\
            --save-held-out fold1.jsonl -o runs/fold1
    """
    from medground import boxes, jsonl, leakage
    from medground.data import examples, splits
    from medground.records import Phrase

    _check_usage(records, rehearse, anatomy, chosen)
    if init_from:
        training.follow(init_from, chosen)
    training.check(**chosen)
    kept = _for_config(chosen, multi_box)
    how = splits.Choice(seed=chosen["seed"], **{name: chosen.pop(name) for name in SPLIT})
    bad_lines = jsonl.BadLines(rejects)
    parts = splits.split(jsonl.read(records, Phrase, bad_lines, boxes.check_phrase), how)
    leaks = [*leakage.between(parts), *(leakage.with_model(parts, init_from) if init_from else ())]
    leaky = leakage.check(leaks, allow_leakage, LEAKAGE)
    sizes = examples.Sizes(chosen["images"])
    learned, checked = (examples.from_phrases(parts[name], sizes, multi_box) for name in ("train", "val"))
    replayed = _replayed(rehearse, anatomy, bad_lines, [*parts["val"], *parts["test"]])
    _reword(learned, chosen.pop("paraphrases"), chosen["negative_prob"], replayed)
    if save_held_out:
        _write(save_held_out, parts["test"])
    if epochs and not _by_hand("steps"):
        chosen["steps"] = -(-epochs * len(learned) // chosen["batch_size"])
    more = {"max_terms": 0, "max_sentences": 1_000, "rehearsal": replayed, "leakage": leaky}
    more |= {"sides_apart": multi_box == "sides", "chosen": kept}
    training.run(learned, checked, init_from, **more, **chosen)


def _check_usage(
    records: BinaryIO, rehearse: BinaryIO | None, anatomy: BinaryIO | None, chosen: dict[str, Any]
) -> None:
    """Raise UsageError for options that cannot be combined, before any input is read."""
    inputs = [each for each in (records, rehearse, anatomy) if each]
    options.refuse_two_stdins(*inputs)
    folds, fold = chosen["num_folds"], chosen["fold"]
    if (folds is None) != (fold is None) or (fold and fold > folds):
        raise click.UsageError("give --num-folds K together with --fold I, I from 1 to K")
    if folds and (chosen["val_subjects"] or chosen["test_subjects"]):
        raise click.UsageError("give --num-folds, or --val-subjects and --test-subjects, not both")
    if _by_hand("steps") and _by_hand("epochs"):
        raise click.UsageError("give --steps or --epochs, not both")
    if chosen["num_phrases"] and chosen["subject_fraction"]:
        raise click.UsageError("give --num-phrases or --subject-fraction, not both")
    if anatomy and not rehearse:
        raise click.UsageError("--anatomy requires --rehearse, the pairs to replay")
    if not any(registry.OBJECTIVES[name].trains_boxes for name in chosen["objective"]):
        boxes = registry.one_of(registry.OBJECTIVES.where(trains_boxes=True))
        raise click.UsageError(
            f"--objective {chosen['objective'][0]} trains no boxes: add --objective {boxes}"
        )


def _for_config(chosen: dict[str, Any], multi_box: str) -> dict[str, Any]:
    """Return the choice of examples for config.toml, without defaults."""
    kept = {name: chosen[name] for name in (*SPLIT, "paraphrases") if chosen[name]}
    kept |= {"multi_box": multi_box} if multi_box != "drop" else {}
    return {name: str(each) if isinstance(each, Path) else each for name, each in kept.items()}


def _by_hand(name: str) -> bool:
    """Return whether the option is on the command line; there it wins over `epochs` of a config."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _replayed(
    pairs: BinaryIO | None, anatomy: BinaryIO | None, bad_lines: Any, held_out: list[Any]
) -> list[Any]:
    """Return the examples to replay, without held-out subjects; [] without pairs."""
    if pairs is None:
        return []
    from medground import boxes, jsonl
    from medground.data import rehearsal
    from medground.records import Anatomy, Pair

    anatomies = jsonl.read(anatomy, Anatomy, bad_lines) if anatomy else None
    return rehearsal.rehearse(jsonl.read(pairs, Pair, bad_lines, boxes.check_pair), anatomies, held_out)


def _reword(learned: list[Any], paraphrases: int, negative_prob: float, replayed: list[Any]) -> None:
    """Add paraphrases and negative queries to the training phrases."""
    if not (paraphrases or negative_prob):
        return
    from medground.data import negatives as negative_examples
    from medground.data import paraphrasing
    from medground.reports.parser import Parser

    parser = Parser()
    accounts = negative_examples.accounts(learned, replayed, parser)  # of the original phrasings
    if paraphrases:
        paraphrasing.reword(learned, paraphrases, parser, accounts)
    if negative_prob:
        negative_examples.deny(learned, replayed, accounts, parser)


def _write(path: str, phrases: list[Any]) -> None:
    from medground import jsonl, output_files

    with output_files.create(path) as stream:
        jsonl.write(stream, phrases)
