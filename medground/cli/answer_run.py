"""The work of `answer`: train heads or load them, then predict."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from medground.cli import options


def fitted(records: BinaryIO, bad_lines: Any, given: dict[str, Any]) -> Iterator[Any]:
    """Train a head for each seed, and return the predictions for validation and test questions."""
    from medground import leakage, output_files
    from medground.downstream import answer, answer_inputs, question_table

    model, images = _opened(given)
    table = question_table.of(_read(records, bad_lines, images, given, True), given["allow_leakage"])
    found = leakage.with_model(table.parts, given["model"])
    marked = table.leaks | leakage.check(
        found, given["allow_leakage"], "use other questions, or give --allow-leakage"
    )
    plan, limit = _plan(given), _limit(given["text_tokens"], model)
    _add_maps(images, table.questions, given)
    inputs = _inputs(model, images, given, limit, plan.freeze)
    answer_inputs.warn_of_long(model, table.questions, limit)
    classes = question_table.classes_of(table.parts["train"])
    if given["head_type"] == answer.CLASSES:
        question_table.warn_of_unreachable(table, classes)
    held = answer.new(table, classes, inputs, plan, given["head_type"], given["images"])
    seeds = range(given["seeds"])
    if given["save_head"] is None:
        answer.fit(table, inputs, plan, held, seeds, given["model"], lambda _: None, _progress)
    else:
        with output_files.locked(given["save_head"]) as place:
            held = _continued(held, Path(place))
            answer.fit(
                table, inputs, plan, held, seeds, given["model"], partial(_save, Path(place)), _progress
            )
    questions = [each for each in table.questions if each.split != "train"]
    runs = [each for each in held.runs if each.seed in seeds]
    return _predicted(held, runs, inputs, questions, given["batch_size"], questions if marked else [])


def reused(records: BinaryIO, bad_lines: Any, given: dict[str, Any]) -> Iterator[Any]:
    """Return the predictions of the heads in --head for all questions."""
    from medground import leakage
    from medground.downstream import answer_head, answer_inputs, question_table
    from medground.errors import MedgroundError
    from medground.published import PARTS_SHARE_IMAGES

    model, images = _opened(given)
    held = answer_head.load(given["head"])
    if held.settings.get("model") != model.name:
        raise MedgroundError(f"{given['head']}: heads of another model; give that one with --model")
    given |= {key: held.settings[key] for key in ("blank_images", "head_type")}
    given |= {"layer": held.settings["layer"]}
    frozen = held.settings["freeze"]
    if given["feature_maps"] and not {"image-encoder", "all"} & {*frozen}:
        raise MedgroundError(
            f"{given['head']}: heads with an image encoder of their own: not with --feature-maps"
        )
    questions = question_table.without_differences(_read(records, bad_lines, images, given, False))
    trained = leakage.Patients.trained(held.record)
    leaky = [e for e in questions if PARTS_SHARE_IMAGES not in (e.split_by or "") and e in trained]
    leaks = leakage.overlap(leaky, trained, "the questions and the training of --head", "the questions")
    leakage.check(leaks, given["allow_leakage"], "use other questions, or give --allow-leakage")
    limit = held.settings["text_tokens"]
    answer_inputs.warn_of_long(model, questions, limit)
    _add_maps(images, questions, given)
    inputs = _inputs(model, images, given, limit, frozen)
    return _predicted(held, held.runs, inputs, questions, given["batch_size"], leaky)


def _opened(given: dict[str, Any]) -> tuple[Any, Any]:
    """Return the model and its images, or the feature maps of those."""
    from medground.data.feature_maps import FeatureMaps
    from medground.data.image_store import ImageStore
    from medground.models import grounder

    model = grounder.load(given["model"], options.device_of(given["device"]))
    size = model.config.image_size
    if given["feature_maps"] is None:
        return model, ImageStore(given["images"], size)
    return model, FeatureMaps(given["feature_maps"], given["images"], model.network, size)


def _read(records: BinaryIO, bad_lines: Any, images: Any, given: dict[str, Any], fits: bool) -> list[Any]:
    """Return the valid questions; each image that is used and has no feature map is read once."""
    from medground import console, jsonl
    from medground.data.image_store import ImageStore
    from medground.downstream import question_table
    from medground.records import Question

    plain = images if isinstance(images, ImageStore) else ImageStore(given["images"], images.size, 0)

    def readable(path: str) -> None:
        if not given["blank_images"] and (plain is images or path not in images):
            plain.get(path)

    check = question_table.check(fits, readable)
    return list(console.progress(jsonl.read(records, Question, bad_lines, check), "questions read"))


def _plan(given: dict[str, Any]) -> Any:
    from medground.downstream.answer_fit import Plan

    names = ("epochs", "batch_size", "lr", "head_lr", "fusion_lr", "weight_decay", "warmup_ratio", "freeze")
    return Plan(**{name: given[name] for name in names})


def _limit(wanted: int | None, model: Any) -> int:
    most: int = model.config.text_tokens
    return most if wanted is None else min(wanted, most)


def _add_maps(images: Any, questions: list[Any], given: dict[str, Any]) -> None:
    """Compute the feature maps that the questions' images lack."""
    from medground import console

    if given["feature_maps"] is not None and not given["blank_images"]:
        images.add(
            [each.path for each in questions],
            lambda found, count: console.progress(found, "batches of feature maps", count),
        )


def _inputs(model: Any, images: Any, given: dict[str, Any], limit: int, frozen: Any) -> Any:
    """Return the inputs of a head; frozen: the parts of --freeze."""
    from medground.downstream.answer_inputs import MAPS, PATCHES, VISUAL, Inputs

    layer = VISUAL if given["head_type"] == "text" else given["layer"]
    keep = PATCHES if "all" in frozen else MAPS if "image-encoder" in frozen else None
    return Inputs(model, images, limit, given["blank_images"], layer, keep)


def _continued(held: Any, path: Path) -> Any:
    """Return the heads of an interrupted training with the same settings, else the new ones."""
    from medground.downstream import answer, answer_head

    if not path.is_file():
        return held
    found = answer_head.load(path)
    answer.refuse_other(found, held.settings, path)
    return found


def _save(path: Path, held: Any) -> None:
    held.save(path)


def _predicted(
    held: Any, runs: Any, inputs: Any, questions: Any, batch_size: int, leaky: Any
) -> Iterator[Any]:
    from medground.downstream import answer

    keys = {"head": held.settings["head_type"]} | ({"blank_images": True} if inputs.blank else {})
    leaks = {id(each) for each in leaky}
    for question, found in answer.predict(held, runs, inputs, questions, batch_size, _progress):
        marks = {"leakage": True} if id(question) in leaks else {}
        yield replace(found, extra=found.extra | keys | marks)


def _progress(items: Any, label: str, total: int) -> Any:
    from medground import console

    return console.progress(items, label, total)
