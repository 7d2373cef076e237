"""medground export: a model -> an engine that answers faster on a CPU."""

from pathlib import Path

import click

from medground.cli import options


@click.command()
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder, as pretrain and finetune leave it.",
)
@options.folder("Folder for the export; it may be the model's own.")
def export(model: Path, folder: Path) -> None:
    """Make an engine of a model that answers faster on a CPU, with the same boxes.

    Writes OpenVINO graphs, tokenizer, config and, where there is one, the calibration. Give the folder to
    ground as --model: it takes the export by itself. With --engine bf16 it is faster still on CPUs with AMX
    or AVX512-BF16. A model that is trained or calibrated again must be exported again.

    \b
        $ medground export --model runs/finetuned -o runs/exported
        $ medground ground --model runs/exported film.png "right lower lobe opacity"
    """
    from medground.grounding import backends
    from medground.models import grounder

    backends.export(grounder.load(model), model, folder)
