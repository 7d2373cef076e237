"""Replay of pre-training pairs together with the phrases."""

import signal

import numpy as np
import pytest
import signals
import torch
from toy_runs import digests, finetune, record

from medground.data import rehearsal
from medground.data.collate import Batches, Plan
from medground.data.examples import Example, Query
from medground.records import Anatomy, Pair, Phrase, Region, Triplet
from medground.training.stepper import Stepper


def pair(image: str, text: str, existence: str, finding: str = "pneumothorax", subject: str = "a") -> Pair:
    triplet = Triplet(
        region="left lung",
        finding=finding,
        existence=existence,
        finding_span=(0, 1),
        region_span=None,
        cue=None,
        cue_span=None,
        region_source="explicit",
        rule="x",
    )
    return Pair(
        image_id=image,
        study_id=image,
        subject_id=subject,
        sentence_id=f"{image}|0",
        path=f"{image}.png",
        width=100,
        height=100,
        text=text,
        regions=["left lung"],
        region_boxes=[(50, 10, 90, 90)],
        box=(50, 10, 90, 90),
        triplets=[triplet],
        rule="S1",
    )


PAIRS = [
    pair("i1", "No pneumothorax.", "absent"),
    pair("i1", "Left lung opacity.", "present", "lung opacity"),
    pair("i2", "Pneumothorax.", "present", subject="b"),
    pair("i2", "No other pneumothorax.", "absent", subject="b"),
    pair("i3", "Pneumothorax.", "present", subject="c"),
]
PHRASE = Phrase(
    image_id="i1",
    phrase_id="1",
    subject_id="a",
    path="i1.png",
    text="left lung opacity",
    boxes=[(50, 10, 90, 90)],
    width=100,
    height=100,
)


def test_patients_who_are_held_out_are_not_rehearsed():
    held = [PHRASE, Phrase(image_id="i9", phrase_id="9", subject_id="c", path="x", text="t")]
    found = rehearsal.rehearse(PAIRS, None, held[1:])
    assert {each.subject_id for each in found} == {"a", "b"}
    region = Region(name="left lung", box=(50.0, 10.0, 90.0, 90.0))
    anatomies = [
        Anatomy(image_id=f"i{n}", subject_id=name, path="x", width=100, height=100, regions=[region])
        for n, name in ((1, "a"), (4, "d"))
    ]
    found = rehearsal.rehearse(PAIRS, anatomies, held)
    assert {(each.subject_id, len(each.terms)) for each in found} == {("b", 0), ("d", 1)}


class ImageSet:
    size = 32

    def get(self, path):

        from medground.boxes import Letterbox
        from medground.models.letterboxed import LetterboxedImage

        return LetterboxedImage(np.full((32, 32), int(path), dtype=np.uint8), Letterbox(100, 80, 32))


def spelled(texts):
    """Ids that give each text back."""
    ids = torch.tensor([[int.from_bytes(text.encode())] for text in texts])
    return ids, torch.ones_like(ids, dtype=torch.bool)


def queries(batch) -> list[tuple[int, str, int]]:
    """(image row, text, number of boxes) of each pair."""
    texts = [int(each).to_bytes(8).strip(b"\0").decode() for each in batch.ids[:, 0]]
    counts = torch.bincount(batch.box_of, minlength=len(batch.image_of)).tolist()
    rows = zip(batch.image_of.tolist(), batch.text_of.tolist(), counts, strict=True)
    return [(image, texts[text], count) for image, text, count in rows]


def test_a_step_has_replayed_images_and_those_of_phrases():
    def made(first, sentences):
        return [Example(f"i{n}", str(n), 100, 80, None, [], sentences(n)) for n in range(first, first + 5)]

    learned = made(0, lambda n: [Query((f"x{n}",), ((9, 9, 40, 40),), (f"no{n}",))])
    old = made(100, lambda n: [Query((f"y{n}-{m}",), ()) for m in range(3)])
    beside = Batches(old, ImageSet(), spelled, Plan(images=2, sentences=2, seed=1))
    batches = Batches(learned, ImageSet(), spelled, Plan(images=3, negatives=0.5, views="none"), beside)
    rows, negated = [], 0
    for step in range(40):
        batch = batches.at(step)
        assert batch.pictures.shape[0] == 5
        rows = queries(batch)
        for image in (3, 4):
            assert [(text[0], count) for row, text, count in rows if row == image] == [("y", 0)] * 2
        for image in (0, 1, 2):
            own = [(text, count) for row, text, count in rows if row == image]
            assert (own[0][0][0], own[0][1]) == ("x", 1)
            assert own[1:] in ([], [(f"no{own[0][0][1:]}", 0)])
            negated += len(own) - 1
    assert 40 < negated < 80  # half of 120


@pytest.mark.slow
def test_replay_continues_after_a_stop(toy_cohort, pretrained, tmp_path, monkeypatch):
    flags = [
        "--init-from",
        pretrained,
        "--rehearse",
        toy_cohort.pairs,
        "--anatomy",
        toy_cohort.anatomy,
        "--rehearse-images",
        1,
    ]
    whole = finetune(toy_cohort, tmp_path / "whole", *flags, steps=3)
    assert whole.exit_code == 0, whole.output
    assert not set(record(tmp_path / "whole")["subjects"]) & set(
        digests(["p3", "p7", "p11"])
    )  # they validate
    real_step, calls = Stepper.step, []

    def step_and_ask(*args):
        calls.append(1)
        if len(calls) == 1:
            signals.deliver(signal.SIGUSR1)
        return real_step(*args)

    monkeypatch.setattr(Stepper, "step", step_and_ask)
    assert finetune(toy_cohort, tmp_path / "part", *flags, steps=3).exit_code == 75
    assert finetune(toy_cohort, tmp_path / "part", *flags, steps=3).exit_code == 0
    for name in ("model.safetensors", "resume.safetensors"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
