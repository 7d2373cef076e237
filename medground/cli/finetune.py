"""medground finetune: phrases with drawn boxes -> a model that finds such phrases."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options, training

SPLIT = ("val_subjects", "test_subjects", "folds", "fold", "few", "fraction")  # fields of splits.Choice
LIST = click.Path(exists=True, dir_okay=False, path_type=Path)
NONE_OR_MORE = click.IntRange(min=0)
LEAKAGE = "split by subject, pretrain with --leave-out, or give --allow-leakage to mark the model"


_SPLITTING = [
    click.option(
        "--val-subjects", type=LIST, help="Subjects that validate, one a line, for the records' own."
    ),
    click.option(
        "--test-subjects", type=LIST, help="Subjects to hold out, one a line, for the records' own."
    ),
    click.option(
        "--folds",
        type=click.IntRange(min=3),
        help="Cross-validation by patient, stratified by category: the records' split is not read.",
    ),
    click.option(
        "--fold", type=options.COUNT, help="The fold of --folds that is held out; the next one validates."
    ),
    click.option(
        "--held-out", metavar="FILE", help="Write the phrases that are held out, to be grounded and scored."
    ),
    click.option(
        "--fraction",
        type=click.FloatRange(0, 1, min_open=True),
        help="Train on this share of the patients only, stratified by category.",
    ),
    click.option(
        "--few", type=options.COUNT, help="Train on so many phrases only, drawn evenly over categories."
    ),
    click.option(
        "--multi-box",
        type=click.Choice(["drop", "hull", "sides", "all"]),
        default="drop",
        show_default=True,
        help="Phrases with several boxes: leave out, learn the box around all of them, split those about "
        "both sides (ground then asks for each side) and learn the hull of others, or (mdetr) learn all.",
    ),
    click.option(
        "--allow-leakage",
        is_flag=True,
        help="Train on patients of validation or test too, or on a model that did; its record says so.",
    ),
]
_REHEARSING = [  # what is asked beside the drawn phrases
    training.paraphrases,
    click.option(
        "--negatives",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Chance that a phrase is also asked negated, or with what its report denies.",
    ),
    click.option(
        "--rehearse", type=click.File("rb"), help="Pairs of pre-training to ask beside the phrases."
    ),
    click.option(
        "--anatomy",
        type=click.File("rb"),
        help="Anatomy records to rehearse all regions of, not only those of --rehearse.",
    ),
    click.option(
        "--rehearse-images",
        type=NONE_OR_MORE,
        default=4,
        show_default=True,
        help="Further images in a step, with --rehearse.",
    ),
    click.option(
        "--rehearse-terms",
        type=NONE_OR_MORE,
        default=2,
        show_default=True,
        help="Most region names asked of each of them.",
    ),
    click.option(
        "--rehearse-sentences",
        type=NONE_OR_MORE,
        default=2,
        show_default=True,
        help="Most sentences asked of each of them.",
    ),
]


def _with(more: list[Any]) -> Callable[[Any], Any]:
    """Add these options to a command."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(more), command)


@click.command()
@options.records
@click.option(
    "--from",
    "start",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder to go on from, as pretrain leaves it, with its --architecture and --size; without it "
    "a new model is trained.",
)
@_with(_SPLITTING)
@_with(_REHEARSING)
@click.option(
    "--freeze",
    type=click.Choice(["image-encoder", "text-encoder", "visual"]),
    multiple=True,
    help="A part to leave as it is; may be given again. visual: the layers between image encoder and fusion.",
)
@click.option(
    "--objective",
    type=click.Choice(["agp", "taco"]),
    multiple=True,
    default=["agp"],
    show_default=True,
    help="agp: boxes; with taco, MedRPG's contrast of regions and phrases, beside it.",
)
@click.option("--epochs", type=options.COUNT, help="Times that each image is seen, instead of --steps.")
@training.options(steps=2_000, batch=16, rate=2e-4, save_every=100)
@options.rejects
@training.may_be_stopped
def finetune(
    records: BinaryIO,
    start: Path | None,
    held_out: str | None,
    multi_box: str,
    allow_leakage: bool,
    rehearse: BinaryIO | None,
    anatomy: BinaryIO | None,
    epochs: int | None,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> None:
    """Train a grounding model on phrases whose boxes were drawn, such as MS-CXR.

    Trains on phrases whose `split` is train, or missing, and keeps the best model by the mean IoU of
    those whose `split` is val (or validate); without such phrases, the last. Others are held out. No
    patient may be in two parts, or in validation or test and in what the model of --from was trained on.
    Goes on after an interruption as pretrain does. The weights of losses, as published: l1 5, giou 2 (agp);
    taco, which rises to 0.05, or to the weight it is given. Ours, beside agp's: present 1 and, of mdetr,
    score 1, near 1.

    \b
        $ medground finetune ms_cxr.jsonl --images films --from runs/agp -o runs/finetuned
        $ medground finetune ms_cxr.jsonl --images films --folds 5 --fold 1 \\
            --held-out fold1.jsonl -o runs/fold1
    """
    from medground import jsonl, leakage
    from medground.data import examples, splits
    from medground.records import Phrase

    _check_usage(records, rehearse, anatomy, chosen)
    if start:
        training.follow(start, chosen)
    training.check(**chosen)
    told = _told(chosen, multi_box)
    how = splits.Choice(seed=chosen["seed"], **{name: chosen.pop(name) for name in SPLIT})
    bad_lines = jsonl.BadLines(rejects)
    parts = splits.split(jsonl.read(records, Phrase, bad_lines), how)
    leaks = [*leakage.between(parts), *(leakage.with_model(parts, start) if start else ())]
    leaky = leakage.check(leaks, allow_leakage, LEAKAGE)
    sizes = examples.Sizes(chosen["images"])
    learned, checked = (examples.from_phrases(parts[name], sizes, multi_box) for name in ("train", "val"))
    beside = _beside(rehearse, anatomy, bad_lines, [*parts["val"], *parts["test"]])
    _reword(learned, chosen.pop("paraphrases"), chosen["negatives"], beside)
    if held_out:
        _write(held_out, parts["test"])
    if epochs and not _by_hand("steps"):
        chosen["steps"] = -(-epochs * len(learned) // chosen["batch"])
    more = {"terms": 0, "sentences": 1_000, "rehearsal": beside, "leakage": leaky}
    more |= {"sides_apart": multi_box == "sides", "chosen": told}
    training.run(learned, checked, start, **more, **chosen)


def _check_usage(
    records: BinaryIO, rehearse: BinaryIO | None, anatomy: BinaryIO | None, chosen: dict[str, Any]
) -> None:
    """Refuse options that do not go together, before anything is read."""
    inputs = [each for each in (records, rehearse, anatomy) if each]
    options.refuse_two_stdins(*inputs)
    folds, fold = chosen["folds"], chosen["fold"]
    if (folds is None) != (fold is None) or (fold and fold > folds):
        raise click.UsageError("--folds K and --fold I go together, I from 1 to K")
    if folds and (chosen["val_subjects"] or chosen["test_subjects"]):
        raise click.UsageError("give --folds or lists of subjects, not both")
    if chosen["few"] and chosen["fraction"]:
        raise click.UsageError("give --few or --fraction, not both")
    if anatomy and not rehearse:
        raise click.UsageError("--anatomy is for --rehearse: give the pairs too")
    if "agp" not in chosen["objective"]:
        raise click.UsageError("taco alone teaches no boxes: give --objective agp too")


def _told(chosen: dict[str, Any], multi_box: str) -> dict[str, Any]:
    """How the examples are chosen, where the options say so: what config.toml keeps of it."""
    told = {name: chosen[name] for name in (*SPLIT, "paraphrases") if chosen[name]}
    told |= {"multi_box": multi_box} if multi_box != "drop" else {}
    return {name: str(each) if isinstance(each, Path) else each for name, each in told.items()}


def _by_hand(name: str) -> bool:
    """Whether the option stands on the command line: there it wins over a config's `epochs`."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _beside(
    pairs: BinaryIO | None, anatomy: BinaryIO | None, bad_lines: Any, held_out: list[Any]
) -> list[Any]:
    """The examples to rehearse, none of them of a patient who is held out; [] without pairs."""
    if pairs is None:
        return []
    from medground import jsonl
    from medground.data import rehearsal
    from medground.records import Anatomy, Pair

    anatomies = jsonl.read(anatomy, Anatomy, bad_lines) if anatomy else None
    return rehearsal.rehearse(jsonl.read(pairs, Pair, bad_lines), anatomies, held_out)


def _reword(learned: list[Any], paraphrases: int, negatives: float, beside: list[Any]) -> None:
    """Give phrases other wordings, and what there is nothing to show for."""
    if not (paraphrases or negatives):
        return
    from medground.data import negatives as negative_examples
    from medground.data import paraphrasing
    from medground.reports.parser import Parser

    parser = Parser()
    accounts = negative_examples.accounts(learned, beside, parser)  # of the phrases as they are
    if paraphrases:
        paraphrasing.reword(learned, paraphrases, parser, accounts)
    if negatives:
        negative_examples.deny(learned, beside, accounts, parser)


def _write(path: str, phrases: list[Any]) -> None:
    from medground import jsonl

    with jsonl.create(path) as stream:
        jsonl.write(stream, phrases)
