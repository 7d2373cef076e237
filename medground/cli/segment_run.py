"""The work of `segment`: train decoders, or apply one that was kept."""

import logging
from typing import TYPE_CHECKING, Any, BinaryIO

from medground.cli import options

if TYPE_CHECKING:
    from medground.downstream.segment.stage import Job

log = logging.getLogger(__name__)


def trained(records: BinaryIO, bad_lines: Any, output: str, given: dict[str, Any]) -> None:
    """Write the masks of all runs that the output does not have yet."""
    from medground import console, jsonl, resuming
    from medground.downstream import splits
    from medground.downstream.segment import saved, stage

    if given["resume"]:
        resuming.require_file(output)
    job, leaks = _job(records, bad_lines, given)
    runs = splits.runs_of(given["shares"], range(given["seeds"]))
    for each in runs:
        job.rows(*each)  # no run fails after hours of others
    lines = sum(len(job.data.records[row]) for name in ("val", "test") for row in job.data.rows[name])

    def whole(held: list[tuple[Any, ...]]) -> int:
        return len(held) // lines * lines

    task = options.task() | {"encoder": job.encoder.name, "masks": job.data.digest()}
    with resuming.go_on(output, ("share", "seed"), task, whole, given["resume"]) as (stream, done, _):
        for number, (share, seed) in enumerate(runs, start=1):
            if (share, seed) in done:
                continue
            label = f"run {number} of {len(runs)} (share {share:g}, seed {seed}), epochs"
            segmenter, masks = stage.run(
                *(job, share, seed),
                lambda found: console.progress(found, label, given["epochs"]),  # noqa: B023
            )
            if given["save_head"]:
                seen = [job.data.records[row][0] for row in (*job.rows(share, seed), *job.data.rows["val"])]
                keys = {"share": share, "seed": seed} | job.extra
                saved.save(given["save_head"], segmenter, job, seen, keys, leaks)
            jsonl.write(stream, masks)


def _job(records: BinaryIO, bad_lines: Any, given: dict[str, Any]) -> "tuple[Job, bool]":
    """Return the job of the options, with its images in memory, and whether patients leak."""
    from medground import console, jsonl, leakage, mask_records
    from medground.downstream import image_encoders
    from medground.downstream.segment import decoders, fit, images, stage, views
    from medground.records import Mask

    allowed, reject = given["allow_leakage"], bad_lines.take_record
    masks = images.grouped(jsonl.read(records, Mask, bad_lines, mask_records.check()), reject)
    device = options.device_of(given["device"])
    encoder = image_encoders.load(given["encoder"], given["image_size"], device)
    data, leaks = images.read(
        *(masks, given["images"], encoder.size, reject, allowed),
        progress=lambda found: console.progress(found, "images", len(masks)),
    )
    if encoder.model is not None:
        parts = {name: [data.records[row][0] for row in rows] for name, rows in data.rows.items()}
        found = leakage.with_model(parts, encoder.model)
        leaks |= leakage.check(found, allowed, "use other images, or give --allow-leakage")
    shape = decoders.shape_of(
        *(stage.maps_of(encoder), encoder.size, len(data.classes), given["decoder"], given["widths"] or None)
    )
    log.info("decoder %s over %d feature maps, widths %s", shape.name, len(shape.maps), shape.widths)
    names = ("epochs", "patience", "lr", "weight_decay", "focal_weight", "focal_gamma", "dice_weight")
    settings = fit.Settings(
        **{name: given[name] for name in (*names, "unfreeze", "encoder_lr")},
        batch_size=given["images_per_step"],
        ranges=views.Ranges(scale=given["scale"], rotate=given["rotate"], probability=given["augment_prob"]),
    )
    job = stage.Job(
        encoder=encoder,
        shape=shape,
        data=data,
        settings=settings,
        device=device,
        threshold=given["threshold"],
        negatives=given["negatives"],
        extra={"decoder": shape.name} | ({"leakage": True} if leaks else {}),
    )
    return job, leaks


def applied(records: BinaryIO, bad_lines: Any, output: str, given: dict[str, Any]) -> None:
    """Write the masks of a kept head on the images of the records."""
    from medground import console, jsonl, leakage, output_files
    from medground.downstream import image_encoders
    from medground.downstream.segment import saved, stage
    from medground.records import Image

    device, allowed = options.device_of(given["device"]), given["allow_leakage"]
    head = saved.read(given["head"])
    encoder = image_encoders.load(given["encoder"], head.shape.size, device)
    segmenter = saved.build(head, encoder, device)
    listed = list({each.path: each for each in jsonl.read(records, Image, bad_lines)}.values())
    trained = leakage.Patients.trained(head.training)
    leaks = leakage.overlap(listed, trained, "the images and the training data of --head", "the images")
    marked = leakage.check(leaks, allowed, "use other images, or give --allow-leakage") or head.leaks
    extra = {"model": encoder.name} | head.keys | ({"leakage": True} if marked else {})
    found = stage.apply(
        *(segmenter, head.classes, listed, given["images"], given["threshold"], bad_lines.take_record),
        *(extra, given["images_per_step"]),
    )
    with output_files.create(output) as stream:
        jsonl.write(stream, console.progress(found, "masks", len(listed) * len(head.classes)))
