"""medground export: a model -> OpenVINO graphs for faster prediction on a CPU."""

from pathlib import Path

import click

from medground.cli import options
from medground.cli.command import FILES, command, option


@command()
@options.model(required=True, help="Model folder of pretrain or finetune, or example.")
@options.folder("Folder for the export; it may be the model folder.", may_be=("model",))
@option(
    "--encoders",
    is_flag=True,
    group=FILES,
    help="Write the image and the text encoder for transformers instead.",
)
@option("--public", is_flag=True, group=FILES, help="Leave out the hashes of training subjects.")
@options.config
def export(model: Path, folder: Path, encoders: bool, public: bool) -> None:
    """Export a model for faster prediction on a CPU, with the same boxes.

    Writes OpenVINO graphs, tokenizer, config and, if there is one, the calibration. Pass the folder to
    ground --model, which then uses the export. With --backend bf16 it is faster still, but only on CPUs
    with AMX. Export again after training or calibrating again.

    With --public, the new folder has no training record and can be published (docs/security.md). With
    --encoders, the folder gets image-encoder and text-encoder, which transformers, --image-encoder and
    --text-encoder load.

    \b
        $ medground export --model runs/finetuned -o runs/exported
        $ medground ground --model runs/exported image.png "right lower lobe opacity"
        $ medground export --model runs/asg --encoders -o encoders
    """
    options.refuse_shipped(folder)
    if encoders and public:
        raise click.UsageError("--public would have no effect: leave out --encoders or --public")
    from medground.models import grounder

    if encoders:
        from medground.models import encoder_folders

        encoder_folders.save(grounder.load(model), folder)
        return
    from medground.grounding import exporting

    exporting.export(grounder.load(model), model, folder, public)
