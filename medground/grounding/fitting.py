"""The calibration of a model on phrases with known boxes, as `medground calibrate` makes it.

Predictions are made for every phrase, also for absent ones: `present` is calibrated on both. Letters: n
phrases, Q boxes of each, F boxes kept.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medground import boxes
from medground.errors import MedgroundError
from medground.grounding.backends import Model
from medground.grounding.calibration import (
    AS_IT_IS,
    UNNAMED,
    Array,
    Calibration,
    Curve,
    Events,
    brier,
    calibration_error,
    fit_curve,
    needed_margin,
)
from medground.grounding.predict import (
    DEFAULT_OPTIONS,
    BadImage,
    Prediction,
    PredictOptions,
    area_share,
    inside,
    predict_phrases,
    ranked_boxes,
)
from medground.records import Phrase

log = logging.getLogger(__name__)
HIT = 0.5  # IoU from which a box counts as correct
FEW = 50  # phrases: below, a warning says that figures are rough
REPORTED = (0.5, 0.8, 0.9, 0.95)  # coverages whose margins are reported


def calibrate(
    phrases: Iterable[Phrase],
    model: Model,
    folder: Path,
    bad_image: BadImage | None = None,
    data: str = UNNAMED,
) -> Calibration:
    """Return the calibration of the model on these phrases; those without annotation are left out.

    data: their name, which records state.
    """
    found = list(predict_phrases(_annotated(phrases), model, folder, bad_image))
    if not found:
        raise MedgroundError("no phrase with annotated boxes: nothing to calibrate on")
    if len(found) < FEW:
        log.warning("calibrated on %d phrases only: expect rough figures", len(found))
    return fit([(phrase, each) for phrase, each in found if each is not None], model.name, data)


def _annotated(phrases: Iterable[Phrase]) -> Iterator[Phrase]:
    """Yield the annotated phrases, without the key `existence`, so that absent ones are predicted too."""
    unannotated = 0
    for phrase in phrases:
        unannotated += phrase.boxes is None
        if phrase.boxes is not None:
            yield replace(phrase, extra={k: v for k, v in phrase.extra.items() if k != "existence"})
    if unannotated:
        log.warning("%d phrases have no boxes and are not used", unannotated)


def fit(found: list[tuple[Phrase, Prediction]], model: str, data: str = UNNAMED) -> Calibration:
    """Return the calibration fitted to these predictions for annotated phrases."""
    there = _present_events(found)
    hits = _hit_events(found)
    present, score = fit_curve(there), fit_curve(hits)
    if there.true.all() or not there.true.any():
        log.warning(
            "no phrase is %s: `present` is not calibrated", "absent" if there.true.all() else "present"
        )
    if hits.true.all() or not hits.true.any():
        log.warning(
            "%s box reaches IoU %g: `score` is not calibrated", "every" if hits.true.all() else "no", HIT
        )
    for name, curve in (("present", present), ("score", score)):
        if curve.slope == 0:
            log.warning("`%s` does not rise with the true outcomes: its calibration ignores the model", name)
    bare = Calibration(model, present, score, (), DEFAULT_OPTIONS.min_score, {}, data)
    margins = sorted(_margins(found, PredictOptions(calibration=bare)), key=lambda m: (m is None, m or 0.0))
    whole = replace(bare, margins=[None if each is None else round(each, 5) for each in margins])
    figures = {
        "present": _figures(there, present),
        "score": _figures(hits, score),
        "margin": _reported(whole),
    }
    return replace(whole, figures=figures)


def _figures(events: Events, curve: Curve) -> dict[str, Any]:
    """Return Brier score and calibration error, before and after."""
    each = (("brier", brier), ("calibration_error", calibration_error))
    before = {f"{name}_before": how(AS_IT_IS, events) for name, how in each}
    return {"n": len(events.logits)} | before | {name: how(curve, events) for name, how in each}


def _present_events(found: list[tuple[Phrase, Prediction]]) -> Events:
    logits = np.array([prediction.present for _, prediction in found])
    return Events(logits, np.array([bool(phrase.boxes) for phrase, _ in found]), np.ones(len(found)))


def _hit_events(found: list[tuple[Phrase, Prediction]]) -> Events:
    """Return every box of every prediction, and whether its IoU with a true box is at least HIT."""
    logits, true, shares = [], [], []
    for phrase, prediction in found:
        own = [inside(box, prediction.letterbox) for box in prediction.boxes]
        true_boxes = np.array(phrase.boxes or [], dtype=float).reshape(-1, 4)
        logits.append(prediction.scores)
        true.append((boxes.iou(np.array(own), true_boxes) >= HIT).any(axis=1))
        shares.append(np.array([area_share(box, prediction.letterbox) for box in own]))
    return Events(np.concatenate(logits), np.concatenate(true), np.concatenate(shares))


def _margins(found: list[tuple[Phrase, Prediction]], choices: PredictOptions) -> Iterator[float | None]:
    """Yield the margin that each true box needs, given the boxes that `ground` would write."""
    for phrase, prediction in found:
        kept = np.array([box for box, _ in ranked_boxes(prediction, choices)])
        for box in np.array(phrase.boxes or [], dtype=float).reshape(-1, 4):
            yield needed_margin(_clipped(box, prediction), kept)


def _clipped(box: Array, prediction: Prediction) -> Array:
    """Return the part of a true box that lies inside the image."""
    frame = prediction.letterbox
    cut = boxes.clip(tuple(box), frame.width, frame.height)
    return box if cut is None else np.array(cut)


def _reported(found: Calibration) -> dict[str, Any]:
    margins: dict[str, Any] = {"n": len(found.margins)}
    for coverage in REPORTED:
        try:
            margins[f"{coverage:g}"] = found.margin(coverage)
        except MedgroundError:
            margins[f"{coverage:g}"] = None
    return margins
