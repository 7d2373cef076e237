"""medground probe: labels, images and a frozen encoder -> predicted classes."""

import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import downstream_options, options
from medground.cli.command import DATA, FILES, MODEL, command, option


@command()
@options.records
@downstream_options.encoder
@option(
    "--layer",
    type=click.Choice(["encoder", "visual", "joint"]),
    default="encoder",
    show_default=True,
    group=MODEL,
    help="Image encoder, a model's visual layers, or ASG's joint space.",
)
@downstream_options.image_size
@option(
    "--features",
    type=options.OutputFile(dir_okay=False, path_type=Path),
    group=FILES,
    help="Keep the features in this .safetensors file; an interrupted one is continued.",
)
@option(
    "--feature-maps",
    type=options.OutputFolder(locked=False),
    group=FILES,
    help="Folder of maps as of pretrain --feature-maps; not for --layer encoder.",
)
@option(
    "--fit",
    type=click.Choice(["logistic", "ridge", "published", "zero-shot"]),
    default="logistic",
    show_default=True,
    group=DATA,
    help="Quick logistic or ridge, MGCA's published optimizer, or no training.",
)
@downstream_options.shares
@downstream_options.seeds
@downstream_options.allow_leakage
@options.batch_size
@options.images
@options.device
@options.config
@options.rejects
@options.output
def probe(records: BinaryIO, rejects: BinaryIO, output: str, features: Path | None, **given: Any) -> None:
    """Train a linear probe on frozen features, and predict classes.

    Reads labels of convert nih, chexpert and others, with the splits train, val and test. Each image is
    encoded once. For each --share of the training patients and each seed, a linear layer is fitted, and its
    scores for the validation and test images are written. evaluate --protocol classification scores them.
    --fit zero-shot scores by the phrases of the classes instead; it needs --layer joint.

    \b
        $ medground probe nih.jsonl --encoder runs/asg --images images \\
          --share 0.1 --share 1 --seeds 3 -o probed.jsonl
        $ medground evaluate probed.jsonl --truth nih.jsonl --protocol classification --split test
    """
    if given["feature_maps"] is not None and given["layer"] == "encoder":
        raise click.UsageError("--feature-maps needs --layer visual or joint")
    if given["fit"] == "zero-shot" and given["layer"] != "joint":
        raise click.UsageError("--fit zero-shot needs --layer joint")
    from medground import jsonl
    from medground.downstream import label_table
    from medground.records import Label

    read = jsonl.read(records, Label, jsonl.BadLines(rejects), label_table.check())
    table, leaks = label_table.of(read, given["allow_leakage"])
    options.refuse_nowhere(output, features)
    if features is not None:
        _write(table, leaks, features, output, given)
        return
    with tempfile.TemporaryDirectory(prefix="medground-features-") as folder:
        _write(table, leaks, Path(folder, "features.safetensors"), output, given)


def _write(table: Any, leaks: bool, place: Path, output: str, given: dict[str, Any]) -> None:
    """Write the features to `place`, then the predictions."""
    from medground import console, jsonl, leakage, output_files
    from medground.downstream import features, frozen_encoders, joint_space, probe

    device = options.device_of(given["device"])
    encoder = frozen_encoders.load(given["encoder"], given["layer"], given["image_size"], device)
    if encoder.model is not None:
        parts = {name: [table.labels[row] for row in rows] for name, rows in table.rows.items()}
        found = leakage.with_model(parts, encoder.model)
        leaks |= leakage.check(found, given["allow_leakage"], "use other images, or give --allow-leakage")
    about = {"encoder": encoder.name, "layer": given["layer"], "size": encoder.size}
    about |= {"images": table.digest(given["images"])}
    paths, batches = [each.path for each in table.labels], -(-len(table.labels) // given["batch_size"])
    features.write(
        *(place, encoder, paths, about, given["images"], given["batch_size"], _maps(encoder, paths, given)),
        progress=lambda found: console.progress(found, "batches of images", batches),
    )
    kept = features.read(place)
    extra = {"layer": given["layer"]} | ({"leakage": True} if leaks else {})
    if given["fit"] == probe.ZERO_SHOT and encoder.texts:
        classifier = joint_space.zero_shot(table.classes, encoder.texts)
        predicted = probe.scored(kept, table, classifier, encoder.name, {"fit": given["fit"]} | extra)
    else:
        plan = probe.Plan(given["shares"], range(given["seeds"]), given["fit"])
        predicted = probe.predict(
            *(kept, table, plan, encoder.name, extra),
            progress=lambda runs: console.progress(runs, "runs", len(plan.runs())),
        )
    with output_files.create(output) as stream:
        jsonl.write(stream, predicted)


def _maps(encoder: Any, paths: list[str], given: dict[str, Any]) -> Any:
    """Return the feature maps of all images, after computing missing ones; None without the option."""
    from medground import console
    from medground.data.feature_maps import FeatureMaps

    if given["feature_maps"] is None:
        return None
    maps = FeatureMaps(given["feature_maps"], given["images"], encoder.network, encoder.size)
    maps.add(paths, lambda found, count: console.progress(found, "batches of feature maps", count))
    return maps
