"""From records to what objectives read of reports, and pre-training with them as its user meets it."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from safetensors.torch import load_file

from medground.anatomy import regions
from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.data import examples, vocabulary
from medground.data.collate import Batches, Plan
from medground.data.examples import Example, Query
from medground.data.report_targets import Needs
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.letterboxed import LetterboxedImage
from medground.objectives import knowledge, tags
from medground.records import Anatomy, Pair, Region, Sentence, Triplet


def triplet(finding: str, existence: str = "present", region: str | None = "left lung") -> Triplet:
    return Triplet(
        region=region, finding=finding, existence=existence, finding_span=(0, 1), region_span=None, cue=None,
        cue_span=None, region_source="none", rule="test",
    )  # fmt: skip


def pair(text: str, *triplets: Triplet, image: str = "i1", box=(10.0, 20.0, 50.0, 60.0)) -> Pair:
    return Pair(
        image_id=image, study_id=f"study of {image}", sentence_id="s|0", path="1", width=100, height=80,
        text=text, regions=["left lung"], region_boxes=[box], box=box, triplets=list(triplets), rule="S1",
    )  # fmt: skip


def sentence(number: int, text: str, *triplets: Triplet, study: str = "study of i1") -> Sentence:
    return Sentence(
        study_id=study, sentence_id=f"{study}|{number}", section="findings", start=0, end=len(text),
        text=text, triplets=list(triplets),
    )  # fmt: skip


EFFUSION, NO_EDEMA = triplet("pleural effusion"), triplet("pulmonary edema/hazy opacity", "absent")
PAIRS = [pair("Small left effusion.", EFFUSION), pair("No edema on the left.", NO_EDEMA)]


def read(pairs=PAIRS, sentences=None) -> dict[str, Example]:
    found: dict[str, Example] = {}
    examples.from_pairs(pairs, found, terms=True, reads=True)
    if sentences is not None:
        examples.from_sentences(sentences, found)
    return found


def test_a_sentence_of_several_regions_has_the_box_of_each():
    """A pair whose box encloses those of its regions; boxes are clipped to the image."""
    both = [(-5.0, 20.0, 30.0, 60.0), (50.0, 25.0, 90.0, 70.0)]
    hull = replace(
        PAIRS[0], regions=["left lung", "right lung"], region_boxes=both, box=(-5.0, 20.0, 90.0, 70.0)
    )
    other = replace(hull, text="Elsewhere.", box=(0.0, 0.0, 50.0, 50.0))
    absent = replace(hull, text="No effusion.", triplets=[NO_EDEMA])
    (example,) = read([hull, other, absent]).values()
    assert [(each.texts, each.boxes) for each in example.sentences] == [
        (("Small left effusion.",), ((0.0, 20.0, 30.0, 60.0), both[1])),
        (("Elsewhere.",), ((0.0, 0.0, 50.0, 50.0),)),
        (("No effusion.",), ()),
    ]


def test_a_pair_that_denies_a_finding_still_says_where_it_speaks_of():
    example = read()["i1"]
    assert [query.boxes for query in example.sentences] == [(PAIRS[0].box,), ()]
    assert [query.boxes for query in example.pairs] == [(PAIRS[0].box,), (PAIRS[0].box,)]


def test_without_sentences_the_pairs_are_the_report():
    example = read([*PAIRS, PAIRS[0]])["i1"]
    assert example.report == ["Small left effusion.", "No edema on the left."]
    assert example.findings == {"pleural effusion": "present", "pulmonary edema/hazy opacity": "absent"}
    assert example.tags == {"pleural effusion": "present", "edema": "absent"}


def test_sentences_are_the_whole_report_in_their_order_and_count_for_tags_without_a_pair():
    sentences = [
        sentence(1, "Wires are\n intact.", triplet("sternotomy wires", region=None)),
        sentence(2, "Small left effusion.", EFFUSION),
        sentence(3, "Of another.", triplet("pneumonia"), study="s9"),
    ]
    example = read(sentences=sentences)["i1"]
    assert example.report == ["Wires are intact.", "Small left effusion."]
    assert example.tags == {"wire": "present", "pleural effusion": "present"}
    assert len(example.pairs) == 2


def test_all_images_of_a_study_have_its_report():
    two = [pair("a", image="i1"), pair("b", image="i2")]
    two[1] = Pair(
        **{name: getattr(two[1], name) for name in two[1].__dataclass_fields__} | {"study_id": "study of i1"}
    )
    found = read(two, [sentence(1, "One."), sentence(2, "Two.")])
    assert found["i1"].report == found["i2"].report == ["One.", "Two."]


def test_an_image_with_only_anatomy_is_joined():
    found: dict[str, Example] = {}
    region = Region(name="left lung", box=(1, 1, 50, 50))
    image = {"image_id": "i1", "study_id": "s", "path": "1", "width": 100, "height": 80}
    examples.from_anatomy([Anatomy(**image, regions=[region])], found)
    examples.from_sentences([sentence(1, "Clear.", study="s")], found)
    assert found["i1"].report == ["Clear."]


def test_reports_that_meet_no_image_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        read(sentences=[sentence(1, "Secret.", study="elsewhere")])
    assert "study_ids" in caplog.text and "Secret" not in caplog.text


def test_the_words_of_reports_are_in_the_vocabulary():
    found = read(sentences=[sentence(1, "Wires are intact.")])
    assert "Wires are intact." in examples.all_texts(found.values())


def test_plain_pretraining_keeps_no_reports():
    found: dict[str, Example] = {}
    examples.from_pairs(PAIRS, found)
    assert not (found["i1"].report or found["i1"].pairs or found["i1"].tags)


class ImageSet:
    """Grey images, so that a test needs no file."""

    size = 32

    def get(self, path: str) -> LetterboxedImage:
        return LetterboxedImage(np.full((32, 32), int(path), dtype=np.uint8), Letterbox(100, 80, 32))


def tokenize(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each text: its bytes as a number."""
    ids = torch.tensor([[int.from_bytes(text.encode()[:7])] for text in texts])
    return ids, torch.ones_like(ids, dtype=torch.bool)


def texts(ids: torch.Tensor) -> list[str]:
    return [number.to_bytes(7).strip(b"\0").decode() for number in ids[:, 0].tolist()]


def many(count: int = 5) -> list[Example]:
    queries = [Query((f"a{n}", f"b{n}"), ((n, n, n + 30, n + 30),) * (n % 3)) for n in range(9)]
    found = [Example(f"i{n}", str(n), 100, 80, None, list(queries), queries[:3]) for n in range(count)]
    for n, example in enumerate(found):
        example.terms.append(Query(("left lung", "lung"), ((50, n, 90, 60),)))
        example.report = [f"r{n}", "same"][: n % 3]
        example.pairs = [Query((f"p{n}",), ((n, 10, n + 20, 40),)), Query(("q",), ((5, 5, 9, 9),))][
            : n % 2 + 1
        ]
        example.tags, example.findings = {tags.NAMES[n]: "present"}, {knowledge.NAMES[n]: "uncertain"}
    return found


def test_batches_of_plain_pretraining_are_what_they_were():
    """Drawn before reports could be read."""
    queries = [Query((f"a{n}", f"b{n}"), ((n, n, n + 30, n + 30),) * (n % 3)) for n in range(9)]
    found = [Example(f"i{n}", str(n), 100, 80, None, queries, queries[:3]) for n in range(5)]
    batch = Batches(found, ImageSet(), tokenize, Plan(images=3, terms=2, sentences=1, seed=5)).at(7)
    assert texts(batch.ids[batch.text_of]) == ["a4", "a3", "b1", "b6", "a2", "b1", "b7", "b6", "a0"]
    assert batch.image_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch.box_of.tolist() == [0, 2, 4, 4, 5, 6]
    assert batch.boxes[:, 0].tolist() == pytest.approx(
        [0.199, 0.1731, 0.121, 0.121, 0.1156, 0.1462], abs=1e-4
    )
    assert batch.reports is None


@pytest.mark.parametrize("views", ["none", "mild"])
def test_reports_change_nothing_else_in_a_batch(views):
    plain, reading = (
        Batches(many(), ImageSet(), tokenize, Plan(images=4, seed=3, views=views, always=always)).at(2)
        for always in (None, ("known",))
    )
    for name in ("pictures", "boxes", "image_of", "box_of", "text_of"):
        assert torch.equal(getattr(plain, name), getattr(reading, name)), name
    assert torch.equal(plain.ids, reading.ids[: len(plain.ids)])


def in_order(batch, found: list[Example]) -> list[Example]:
    """The examples of a batch: identified by the grey value of the image."""
    return [found[round(grey * 255)] for grey in batch.pictures[:, 0, 16, 16].tolist()]


@pytest.fixture(scope="module")
def whole():
    return Batches(many(), ImageSet(), tokenize, Plan(images=5, views="none", always=("known",))).at(1)


def test_a_batch_tells_each_images_report(whole):
    shown, batch_reports = in_order(whole, many()), whole.reports
    said = texts(whole.ids)
    for row, example in enumerate(shown):
        assert [said[n] for n in batch_reports.sentences[batch_reports.report_of == row]] == example.report
        assert [said[n] for n in batch_reports.pair_texts[batch_reports.pair_images == row]] == [
            q.texts[0] for q in example.pairs
        ]
        assert batch_reports.has_report[row].item() == bool(example.report)
        assert batch_reports.tags[row].nonzero()[:, 0].tolist() == [int(example.path)]
        assert batch_reports.findings[row].tolist() == [
            -float(n == int(example.path)) for n in range(len(knowledge.NAMES))
        ]
    assert [said[n] for n in batch_reports.always] == ["known"]
    assert len(said) == len(set(said))


def test_regions_are_those_that_have_a_name(whole):
    batch_reports = whole.reports
    assert batch_reports.regions.tolist() == [regions.NAMES.index("left lung")] * 5
    assert batch_reports.region_images.tolist() == [0, 1, 2, 3, 4]


def test_a_batch_without_a_single_text_can_be_made():
    bare = [Example("i", "1", 100, 80, None)]
    batch = Batches(bare, ImageSet(), tokenize, Plan(images=2, always=())).at(0)
    assert batch.reports.has_report.tolist() == [False, False] and len(batch.reports.pair_boxes) == 0


@pytest.mark.parametrize("views", ["mild", "strong"])
def test_boxes_of_reports_move_as_those_of_phrases_do(views):
    found = many()
    for example in found:  # the same boxes as phrases, as pairs and as a region
        boxes = [(10.0, 10.0, 40.0, 50.0), (50.0, 20.0, 90.0, 60.0)]
        example.terms = [Query(("left lung",), (boxes[0],)), Query(("x",), (boxes[1],))]
        example.pairs, example.sentences = list(example.terms), []
    batches = Batches(found, ImageSet(), tokenize, Plan(images=5, terms=2, seed=4, views=views, always=()))
    for step in range(8):
        batch = batches.at(step)
        batch_reports, images = batch.reports, batch.image_of[batch.box_of]
        assert sorted(batch_reports.pair_images.tolist()) == sorted(images.tolist())
        for row in range(5):
            own = batch_reports.pair_boxes[batch_reports.pair_images == row]
            drawn = batch.boxes[images == row]
            assert sorted(own[:, 0].tolist()) == pytest.approx(sorted(drawn[:, 0].tolist()))
            area = batch_reports.region_boxes[batch_reports.region_images == row]
            assert all((own - each).abs().sum(dim=1).min() < 1e-6 for each in area)


@pytest.mark.slow
def test_the_report_of_a_view_that_shows_no_chest_is_not_read():
    found = many()
    for example in found:
        example.report = ["r"]
    batches = Batches(found, ImageSet(), tokenize, Plan(images=5, seed=4, views="strong", always=()))
    batch_reports = [batches.at(step).reports for step in range(40)]
    left = [set(each.pair_images.tolist()) | set(each.region_images.tolist()) for each in batch_reports]
    assert all(
        set(each.has_report.nonzero()[:, 0].tolist()) == own
        for each, own in zip(batch_reports, left, strict=True)
    )
    assert any(not each.has_report.all() for each in batch_reports)


def test_reports_do_not_depend_on_the_number_of_processes():
    batches = Batches(many(), ImageSet(), tokenize, Plan(images=4, seed=5, always=("known",)))
    for step in range(4):
        one = batches.at(step)
        for rank in range(2):
            part = batches.at(step, rank, 2)
            assert torch.equal(part.reports.tags, one.reports.tags[rank::2])
            own = one.reports.pair_images % 2 == rank
            assert torch.equal(part.reports.pair_boxes, one.reports.pair_boxes[own])
            assert texts(part.ids[part.reports.pair_texts]) == texts(one.ids[one.reports.pair_texts[own]])


@pytest.mark.parametrize(
    ("names", "fuses", "always"),
    [(["agp"], True, None), (["asg"], False, 0), (["agp", "asg"], True, 0), (["gk-mvlp"], False, 95)],
)
def test_objectives_say_what_they_need(names, fuses, always):
    needs = Needs.of(names)
    assert needs.fuses == fuses
    assert needs.always is None if always is None else len(needs.always) == always


def test_without_phrases_only_images_with_a_report_are_learned_from():
    assert [each.image_id for each in Needs.of(["asg"]).met_by(many())] == ["i1", "i2", "i4"]
    assert len(Needs.of(["agp", "asg"]).met_by(many())) == 5
    with pytest.raises(MedgroundError, match="no image has a report"):
        Needs.of(["asg"]).met_by(many(1))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"))


def pretrain(cohort: toy.Toy, folder: Path, *flags: object, steps: int = 2):
    given = ("pretrain", cohort.pairs, "--anatomy", cohort.anatomy, "--images", cohort.folder, "-o", folder)
    rest = ("--steps", steps, "--batch-size", 4, "--device", "cpu", *flags)
    return CliRunner().invoke(cli, [str(each) for each in (*given, *rest)])


@pytest.mark.slow
@pytest.mark.parametrize("names", [["agp", "asg"], ["gk-mvlp"]])
def test_objectives_are_learned_together_and_the_model_is_a_model(cohort, names, tmp_path):
    flags = [flag for name in names for flag in ("--objective", name)]
    result = pretrain(cohort, tmp_path / "run", *flags)
    assert result.exit_code == 0, result.output
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    wanted = {
        "agp": {"l1", "giou"},
        "asg": {"ira", "arsa", "irl", "erl"},
        "gk-mvlp": {"itc", "itm", "lm", "ecls"},
    }
    assert set.union(*(wanted[name] for name in names)) <= line.keys()
    model = grounder.load(tmp_path / "run")  # heads are only for training
    assert not any("objectives" in name for name in model.network.state_dict())
    heads = load_file(tmp_path / "run" / "resume.safetensors")
    assert any(name.startswith(f"model.objectives.{names[-1]}.") for name in heads)


def test_reports_that_no_objective_uses_are_refused(cohort, tmp_path):
    result = pretrain(cohort, tmp_path / "run", "--report-sentences", cohort.pairs)
    assert result.exit_code == 2
    assert "--objective" in result.stderr


@pytest.mark.slow
def test_whole_reports_come_from_the_sentences_file(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "MIN_COUNT", 1)
    monkeypatch.setattr(vocabulary, "MIN_PATIENTS", 1)
    lines = [json.loads(line) for line in Path(cohort.pairs).read_text().splitlines()]
    sentences = [
        {"study_id": each["study_id"], "sentence_id": "x", "section": "findings", "start": 0, "end": 5}
        | {"text": "More quixotic words.", "triplets": []}
        for each in lines
    ]
    (tmp_path / "sentences.jsonl").write_text("".join(json.dumps(each) + "\n" for each in sentences))
    flags = (
        "--report-sentences",
        tmp_path / "sentences.jsonl",
        "--objective",
        "asg",
        "--loss-weight",
        "irl=0",
    )
    result = pretrain(cohort, tmp_path / "run", *flags, steps=1)
    assert result.exit_code == 0, result.output
    assert "finetune the model" in result.stderr
    _, mask = grounder.load(tmp_path / "run").tokenize(["quixotic"])
    assert mask.sum() == 3  # the word is known: [CLS] quixotic [SEP]
