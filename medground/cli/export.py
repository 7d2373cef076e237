"""medground export: a model -> OpenVINO graphs for faster prediction on a CPU."""

from pathlib import Path

from medground.cli import options
from medground.cli.command import command


@command()
@options.model(required=True, help="Model folder of pretrain or finetune, or example.")
@options.folder("Folder for the export; it may be the model folder.", may_be=("model",))
@options.config
def export(model: Path, folder: Path) -> None:
    """Export a model for faster prediction on a CPU, with the same boxes.

    Writes OpenVINO graphs, tokenizer, config and, if there is one, the calibration. Pass the folder to
    ground --model, which then uses the export. With --backend bf16 it is faster still on CPUs with AMX or
    AVX512-BF16. Export again after training or calibrating again.

    \b
        $ medground export --model runs/finetuned -o runs/exported
        $ medground ground --model runs/exported image.png "right lower lobe opacity"
    """
    options.refuse_shipped(folder)
    from medground.grounding import backends
    from medground.models import grounder

    backends.export(grounder.load(model), model, folder)
