"""Batches: the boxes of scaled copies, and the parts of several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from PIL import Image
from toy_runs import run

from medground.boxes import Letterbox
from medground.data import augment, collate, splits
from medground.data.collate import Batches, Plan
from medground.data.examples import Example, Query
from medground.data.image_store import ImageStore
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.letterboxed import LetterboxedImage
from medground.records import Phrase
from medground.training import validation


def test_few_phrases_are_even_over_categories():
    phrases = [
        Phrase(
            image_id=f"i{n}",
            phrase_id=f"p{n}",
            path="x",
            text="",
            boxes=[(0, 0, 1, 1)],
            category="ABB"[n % 3],
        )
        for n in range(30)
    ]
    chosen = splits.few(phrases, 8, seed=3)
    assert [each.category for each in chosen].count("A") == 4
    assert chosen == splits.few(phrases, 8, seed=3) != splits.few(phrases, 8, seed=4)


@pytest.fixture
def tokenize():
    def ids_of(texts):
        ids = torch.tensor([[int.from_bytes(text.encode()[:7])] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return ids_of


@pytest.mark.parametrize("cached", [False, True])
def test_boxes_lie_on_scaled_copies_as_on_the_images_they_were_drawn_on(
    toy_cohort, tmp_path, tokenize, cached
):
    halves = scaled(toy_cohort, tmp_path / "halves")
    if cached:
        made = run(
            "cache", toy_cohort.phrases, "--images", halves, "-o", tmp_path / "cache", "--image-size", 32
        )
        assert made.exit_code == 0, made.output
    box = (10.0, 20.0, 60.0, 90.0)
    query = Query(("spot",), (box,))
    example = Example("i0", "image0.png", toy.WIDTH, toy.HEIGHT, None, [query], [query], pairs=[query])
    own, other = (
        collate.collate([(example, [("spot", (box,))])], store, tokenize, ("normal",))
        for store in (
            ImageStore(toy_cohort.folder, 32),
            ImageStore(halves, 32, cache=tmp_path / "cache" if cached else None),
        )
    )
    assert torch.allclose(own.boxes, other.boxes) and len(own.boxes) == 1
    assert torch.allclose(own.reports.pair_boxes, other.reports.pair_boxes)
    example.width, example.height = toy.HEIGHT, toy.WIDTH
    with pytest.raises(MedgroundError, match="is 60 x 50 pixels, its record says 100 x 120"):
        collate.collate([(example, [])], ImageStore(halves, 32), tokenize)


def test_validation_on_scaled_copies_counts_as_on_the_images_themselves(toy_cohort, tmp_path):
    model = grounder.build("small", ["spot"])
    size = model.config.image_size
    box = (10.0, 20.0, 60.0, 90.0)
    example = Example("i0", "image0.png", toy.WIDTH, toy.HEIGHT, None, sentences=[Query(("spot",), (box,))])
    own, other = (
        validation.over_phrases([example], ImageStore(folder, size), model)(model.network.eval())
        for folder in (toy_cohort.folder, scaled(toy_cohort, tmp_path / "halves"))
    )
    assert own == pytest.approx(other, abs=0.02) and own > 0


def scaled(images: toy.Toy, folder: Path) -> Path:
    """A folder of the images at half their size."""
    folder.mkdir()
    for path in images.folder.glob("*.png"):
        Image.open(path).resize((toy.WIDTH // 2, toy.HEIGHT // 2)).save(folder / path.name)
    return folder


@pytest.mark.parametrize("kind", augment.KINDS)
@pytest.mark.parametrize("on_device", [False, True])
def test_batches_do_not_depend_on_the_number_of_processes(toy_cohort, kind, on_device):
    class ImageSet:
        size = 32

        def get(self, path):
            square = np.full((32, 32), int(path), dtype=np.uint8)
            return LetterboxedImage(square, Letterbox(100, 80, 32))

    queries = [Query((f"a{n}", f"b{n}"), ((n, n, n + 30, n + 30),) * (n % 3)) for n in range(9)]
    found = [Example(f"i{n}", str(n), 100, 80, None, queries) for n in range(7)]

    def tokenize(texts):
        ids = torch.tensor([[int.from_bytes(text.encode())] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    batches = Batches(found, ImageSet(), tokenize, Plan(images=4, seed=5, views=kind, on_device=on_device))
    for step in range(5):
        whole = collate.to_device(batches.at(step), torch.device("cpu"))
        parts = [batches.at(step, rank, 2).viewed() for rank in range(2)]
        for rank, part in enumerate(parts):
            assert torch.equal(part.pictures, whole.pictures[rank::2])
            wanted = [n for n, image in enumerate(whole.image_of.tolist()) if image % 2 == rank]
            assert torch.equal(part.boxes, whole.boxes[torch.isin(whole.box_of, torch.tensor(wanted))])
            assert torch.equal(part.ids[part.text_of], whole.ids[whole.text_of[wanted]])
