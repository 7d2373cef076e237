"""medground finetune: phrases with drawn boxes -> a model that finds such phrases."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options, training


@click.command()
@options.records
@click.option(
    "--from",
    "start",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder to go on from, as pretrain leaves it; without it a new model is trained.",
)
@click.option(
    "--few", type=click.IntRange(min=1), help="Train on so many phrases only, drawn evenly over categories."
)
@click.option(
    "--multi-box",
    type=click.Choice(["drop", "hull", "all"]),
    default="drop",
    show_default=True,
    help="Phrases with several boxes: leave out, learn the box around all of them, or (mdetr) all.",
)
@click.option(
    "--allow-leakage",
    is_flag=True,
    help="Train on patients of validation or test too, or on a model that did; the record then says so.",
)
@training.options(steps=2_000, batch=16, rate=2e-4, save_every=100)
@options.rejects
def finetune(
    records: BinaryIO,
    start: Path | None,
    few: int | None,
    multi_box: str,
    allow_leakage: bool,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> None:
    """Train a grounding model on phrases whose boxes were drawn, such as MS-CXR.

    Trains on phrases whose `split` is train, or missing, and keeps the best model by the mean IoU of
    those whose `split` is val (or validate); without such phrases, the last. Other splits are not read.
    Goes on after an interruption as pretrain does.

    \b
        $ medground finetune ms_cxr.jsonl --images films --from runs/agp -o runs/finetuned
    """
    from medground import jsonl
    from medground.records import Phrase
    from medground.training import audit, examples, splits

    parts = splits.by_split(jsonl.read(records, Phrase, jsonl.BadLines(rejects)))
    leakage = audit.refuse_leaks(parts, start, allow_leakage)
    train = splits.few(parts["train"], few, chosen["seed"]) if few else parts["train"]
    sizes = examples.Sizes(chosen["images"])
    learned, checked = (examples.from_phrases(each, sizes, multi_box) for each in (train, parts["val"]))
    training.run(
        learned, checked, start, objective=("agp",), terms=0, sentences=1_000, leakage=leakage, **chosen
    )
