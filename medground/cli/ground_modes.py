"""The ways of ground: words, a report or records in; lines, a table, pictures, a page or maps out."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medground import registry, shipped
from medground.cli import options


def run(image: Path | None, words: tuple[str, ...], **chosen: Any) -> None:
    """Do what the options ask for."""
    from medground import jsonl
    from medground.grounding import backends

    bad_lines = jsonl.BadLines(chosen["rejects"])
    asked = chosen["shard"].keep(_asked(image, words, chosen, bad_lines))
    chosen["model"] = options.named_or_example(chosen["model"], shipped.GROUNDER)
    model = backends.load(chosen["model"], options.device_of(chosen["device"]), chosen["backend"])
    if chosen["resume"]:
        _go_on(asked, model, bad_lines, chosen)
    else:
        _write(_with_pictures(_answers(asked, model, bad_lines, chosen), chosen), chosen)


def _answers(asked: Iterable[Any], model: Any, bad_lines: Any, chosen: dict[str, Any]) -> Iterable[Any]:
    from medground import console
    from medground.grounding import predict

    choices = _choices(chosen, model.name)
    found = predict.ground_phrases(asked, model, chosen["images"], bad_lines.take_record, choices)
    return console.progress(found, "phrases")


def _go_on(asked: Iterable[Any], model: Any, bad_lines: Any, chosen: dict[str, Any]) -> None:
    """Write what an earlier run has not."""
    from medground import jsonl
    from medground.cli import ground_resume
    from medground.grounding import predict

    stated = {"model": model.name} | predict.stated(_choices(chosen, model.name))
    with ground_resume.going_on(chosen["output"], stated) as (stream, held):
        rest = held.rest(asked, skipping=bad_lines.rejects is not None)
        found = _with_pictures(_answers(rest, model, bad_lines, chosen), chosen)
        jsonl.write(stream, (answer for _, answer in found))


def _asked(
    image: Path | None, words: tuple[str, ...], chosen: dict[str, Any], bad_lines: Any
) -> Iterable[Any]:
    """The phrases to look for; a report is read before any model is loaded."""
    from medground import jsonl
    from medground.grounding import phrases
    from medground.records import Phrase

    check = registry.OUTPUT_FORMATS[chosen["output_format"]].check
    if check and image is not None:
        registry.attribute(check)(image)
    if image is None:
        return jsonl.read(chosen["records"], Phrase, bad_lines, phrases.refuse_empty)
    if not chosen["report"]:
        return phrases.phrases_of(image, words)
    return list(phrases.phrases_of_report(image, _sentences(chosen["report"])))


def _sentences(stream: Any) -> list[Any]:
    """The sentences of one report; an empty one has none."""
    from medground import jsonl
    from medground.cli.report_modes import build_parser
    from medground.reports import input as report_input

    stream = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    report_input.refuse_many(stream.peek(65536), jsonl.name_of(stream))
    parser = build_parser()
    reports = report_input.read_one(stream, jsonl.name_of(stream))
    return [sentence for report in reports for sentence in parser.parse_report(report)]


def _choices(chosen: dict[str, Any], model: str) -> Any:
    """How answers become records; raises where a promise is asked that the model cannot give."""
    from medground import checkpoints
    from medground.errors import MedgroundError
    from medground.grounding import calibration, flip
    from medground.grounding.predict import PredictOptions

    fitted = calibration.load(chosen["model"], model) if chosen["calibration"] else None
    if chosen["coverage"] is not None:
        if fitted is None:
            raise MedgroundError(
                f"{chosen['model']}: --coverage needs a calibration; run medground calibrate"
            )
        fitted.margin(chosen["coverage"])
    limits = {name: chosen[name] for name in ("min_score", "min_present") if chosen[name] is not None}
    engine = chosen["backend"] if chosen["backend"] == "bf16" else None
    if not chosen["flip_correction"]:
        limits["as_hung"] = (chosen["model"] / flip.FILE).is_file()
    else:
        limits["orientation"] = flip.load(chosen["model"], model)
    leaky = bool((checkpoints.record_of(chosen["model"]) or {}).get("leakage"))
    return PredictOptions(calibration=fitted, coverage=chosen["coverage"], engine=engine, leakage=leaky, **limits)


def _with_pictures(found: Iterable[Any], chosen: dict[str, Any]) -> Iterable[Any]:
    """The answers, passed on through whatever draws them."""
    from medground import grounding

    if chosen["overlay"]:
        found = grounding.draw_overlays(found, chosen["images"], chosen["overlay"])
    if chosen["html"]:
        from medground.grounding import page

        found = page.write(found, chosen["images"], chosen["html"])
    if chosen["heatmap"]:
        from medground.grounding import heatmaps

        found = heatmaps.write(found, chosen["heatmap"])
    return found


def _write(found: Iterable[Any], chosen: dict[str, Any]) -> None:
    from medground import jsonl

    entry = registry.OUTPUT_FORMATS[chosen["output_format"]]
    if entry.one_per_image:
        entry.load()(found, chosen["images"], Path(chosen["output"]))
        return
    with jsonl.create(chosen["output"]) as stream:
        entry.load()(stream, found)
