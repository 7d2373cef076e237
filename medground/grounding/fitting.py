"""Phrases with known boxes + a model -> a calibration: what `medground calibrate` does.

Every phrase is looked for, absent ones too: what the network says of those is half of what is to be learned.
Letters: n phrases, Q boxes of each, F boxes kept.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medground import boxes, checkpoints, subjects
from medground.errors import MedgroundError
from medground.grounding.backends import Model
from medground.grounding.calibration import (
    AS_IT_IS,
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
    Prediction,
    BadImage,
    PredictOptions,
    ranked_boxes,
    find,
    inside,
    area_share,
)
from medground.records import Phrase

log = logging.getLogger(__name__)
HIT = 0.5  # IoU from which a box counts as right
FEW = 50  # phrases: below, the user is told that figures are rough
SHOWN = (0.5, 0.8, 0.9, 0.95)  # coverages whose margins are reported


def calibrate(
    phrases: Iterable[Phrase], model: Model, folder: Path, bad_image: BadImage | None = None
) -> Calibration:
    """The calibration of the model on these phrases; those whose boxes nobody has drawn are left out."""
    found = list(find(_looked_for(phrases), model, folder, bad_image))
    if not found:
        raise MedgroundError("no phrase whose boxes are known: nothing to calibrate on")
    if len(found) < FEW:
        log.warning("calibrated on %d phrases only: expect rough figures", len(found))
    return fit([(phrase, answer) for phrase, answer in found if answer is not None], model.name)


def refuse_trained_on(phrases: Iterable[Phrase], folder: Path) -> None:
    """Raise MedgroundError where the model in the folder says that it was trained on patients of these."""
    seen = set((checkpoints.record_of(folder) or {}).get("subjects") or ())
    both = {p.subject_id or p.image_id for p in phrases if not seen.isdisjoint(subjects.digests_of([p]))}
    if both:
        raise MedgroundError(
            f"{len(both)} patients of these phrases are among those that {folder} was trained on "
            f"(first: {min(both)}); calibrate on others (--split val)"
        )


def _looked_for(phrases: Iterable[Phrase]) -> Iterator[Phrase]:
    """The phrases that have been drawn, without the key that would have absent ones passed over."""
    undrawn = 0
    for phrase in phrases:
        undrawn += phrase.boxes is None
        if phrase.boxes is not None:
            yield replace(phrase, extra={k: v for k, v in phrase.extra.items() if k != "existence"})
    if undrawn:
        log.warning("%d phrases have no boxes and are not used", undrawn)


def fit(found: list[tuple[Phrase, Prediction]], model: str) -> Calibration:
    """The calibration that these answers to phrases with known boxes give."""
    there = _present_events(found)
    hits = _hit_events(found)
    present, score = fit_curve(there), fit_curve(hits)
    if there.true.all() or not there.true.any():
        log.warning("no phrase is %s: `present` stays as it is", "absent" if there.true.all() else "present")
    bare = Calibration(model, present, score, (), DEFAULT_OPTIONS.min_score, {})
    margins = sorted(_margins(found, PredictOptions(calibration=bare)), key=lambda m: (m is None, m or 0.0))
    whole = replace(bare, margins=[None if each is None else round(each, 5) for each in margins])
    figures = {"present": _figures(there, present), "score": _figures(hits, score), "margin": _shown(whole)}
    return replace(whole, figures=figures)


def _figures(events: Events, curve: Curve) -> dict[str, Any]:
    """How far probabilities and outcomes lie apart, before and after."""
    each = (("brier", brier), ("calibration_error", calibration_error))
    before = {f"{name}_before": how(AS_IT_IS, events) for name, how in each}
    return {"n": len(events.logits)} | before | {name: how(curve, events) for name, how in each}


def _present_events(found: list[tuple[Phrase, Prediction]]) -> Events:
    logits = np.array([answer.present for _, answer in found])
    return Events(logits, np.array([bool(phrase.boxes) for phrase, _ in found]), np.ones(len(found)))


def _hit_events(found: list[tuple[Phrase, Prediction]]) -> Events:
    """Every box of every answer, and whether it reaches the IoU with a true box."""
    logits, true, shares = [], [], []
    for phrase, answer in found:
        own = [inside(box, answer.letterbox) for box in answer.boxes]
        drawn = np.array(phrase.boxes or [], dtype=float).reshape(-1, 4)
        logits.append(answer.scores)
        true.append((boxes.iou(np.array(own), drawn) >= HIT).any(axis=1))
        shares.append(np.array([area_share(box, answer.letterbox) for box in own]))
    return Events(np.concatenate(logits), np.concatenate(true), np.concatenate(shares))


def _margins(found: list[tuple[Phrase, Prediction]], choices: PredictOptions) -> Iterator[float | None]:
    """The margin that each true box needs, of the boxes that `ground` would write."""
    for phrase, answer in found:
        kept = np.array([box for box, _ in ranked_boxes(answer, choices)])
        for box in np.array(phrase.boxes or [], dtype=float).reshape(-1, 4):
            yield needed_margin(_clipped(box, answer), kept)


def _clipped(box: Array, answer: Prediction) -> Array:
    """The part of a true box that lies on the film: nobody can find more."""
    frame = answer.letterbox
    cut = boxes.clip(tuple(box), frame.width, frame.height)
    return box if cut is None else np.array(cut)


def _shown(found: Calibration) -> dict[str, Any]:
    shown: dict[str, Any] = {"n": len(found.margins)}
    for coverage in SHOWN:
        try:
            shown[f"{coverage:g}"] = found.margin(coverage)
        except MedgroundError:
            shown[f"{coverage:g}"] = None
    return shown
