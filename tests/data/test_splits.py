"""Training, validation and test parts always have whole patients."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data import splits
from medground.errors import MedgroundError
from medground.records import Phrase

CATEGORIES = ["Pneumonia", "Edema", "Effusion", None]


def phrase(number: int, subject: str | None, category: str | None = "A", split: str | None = None) -> Phrase:
    return Phrase(
        image_id=f"i{number}",
        phrase_id=f"p{number}",
        subject_id=subject,
        path="x",
        text="t",
        boxes=[(0, 0, 1, 1)],
        category=category,
        split=split,
    )


def cohort(patients: int, seed: int = 0) -> list[Phrase]:
    """One to four phrases a patient, of categories that are not equally frequent."""
    draw = random.Random(seed)
    owners = [f"s{n:03d}" for n in range(patients) for _ in range(draw.randint(1, 4))]
    return [
        phrase(number, owner, draw.choices(CATEGORIES, [8, 4, 2, 1])[0])
        for number, owner in enumerate(owners)
    ]


def names(phrases) -> set[str]:
    return {each.phrase_id for each in phrases}


def patients(phrases) -> set[str]:
    return {splits.patient_of(each) for each in phrases}


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 8), st.integers(8, 60), st.integers(0, 9))
def test_each_patient_is_in_exactly_one_fold(count, size, seed):
    phrases = cohort(size, seed)
    parts = [splits.by_fold(phrases, count, fold, seed) for fold in range(1, count + 1)]
    tested = [patients(each["test"]) for each in parts]
    assert set.union(*tested) == patients(phrases)
    assert sum(map(len, tested)) == len(patients(phrases))
    for each in parts:
        train, val, test = (patients(each[name]) for name in ("train", "val", "test"))
        assert train and not (train & val or train & test or val & test)
        assert names(each["train"]) | names(each["val"]) | names(each["test"]) == names(phrases)
    for number, each in enumerate(parts):
        assert patients(each["val"]) == tested[(number + 1) % count]


def test_folds_are_stratified_by_category_as_far_as_patients_allow():
    phrases = cohort(400)
    whole = Counter(each.category for each in phrases)
    for fold in range(1, 6):
        own = Counter(each.category for each in splits.by_fold(phrases, 5, fold, seed=1)["test"])
        for category, count in whole.items():
            assert abs(own[category] - count / 5) <= 3, category


def test_folds_follow_from_the_seed_and_not_from_the_order_of_the_records():
    phrases = cohort(60)
    shuffled = random.Random(5).sample(phrases, len(phrases))
    assert splits.folds(phrases, 5, 0) == splits.folds(shuffled, 5, 0) != splits.folds(phrases, 5, 1)


def test_both_spellings_of_a_patient_are_in_one_fold_and_one_share():
    single = [phrase(n, f"1{n // 2:02d}") for n in range(80)]
    mixed = [
        replace(each, subject_id=f"p{each.subject_id}") if n % 2 else each for n, each in enumerate(single)
    ]
    for fold in range(1, 6):
        expected = splits.by_fold(single, 5, fold, 0)
        parts = splits.by_fold(mixed, 5, fold, 0)
        assert [names(each) for each in parts.values()] == [names(each) for each in expected.values()]
    assert names(splits.fraction(mixed, 0.3, 0)) == names(splits.fraction(single, 0.3, 0))


def test_more_folds_than_patients_are_refused():
    with pytest.raises(MedgroundError, match="there are 2"):
        splits.by_fold([phrase(1, "a"), phrase(2, "b")], 3, 1, 0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_fraction_has_its_share_of_every_category_and_whole_patients(share):
    phrases = cohort(400)
    kept = splits.fraction(phrases, share, seed=2)
    assert [each for each in phrases if each.phrase_id in names(kept)] == kept  # in their first order
    assert patients(kept).isdisjoint(patients(each for each in phrases if each not in kept))
    counts = Counter(each.category for each in kept)
    for category, count in Counter(each.category for each in phrases).items():
        assert abs(counts[category] - share * count) <= 3, category


def test_a_fraction_follows_from_the_seed_and_is_never_nothing():
    phrases = cohort(50)
    assert (
        splits.fraction(phrases, 0.2, 0)
        == splits.fraction(phrases, 0.2, 0)
        != splits.fraction(phrases, 0.2, 1)
    )
    assert len(patients(splits.fraction(phrases, 1e-6, 0))) == 1
    assert splits.fraction([], 0.5, 0) == []
    assert splits.fraction(phrases, 1.0, 0) == phrases


def test_few_are_few_where_the_phrases_of_each_image_are_numbered_again():
    phrases = [replace(phrase(n, f"s{n}"), phrase_id=str(n % 2)) for n in range(20)]
    kept = splits.few(phrases, 4, seed=0)
    assert len(kept) == 4 and kept == [each for each in phrases if each in kept]


def test_the_records_own_split_is_read_in_all_spellings():
    spellings = [None, "", "train", "val", "valid", "validate", "validation", "test", "gold"]
    parts = splits.by_split(phrase(n, f"s{n}", split=each) for n, each in enumerate(spellings))
    found = {name: [each.split for each in part] for name, part in parts.items()}
    assert found == {"train": spellings[:3], "val": spellings[3:7], "test": spellings[7:]}


def test_a_list_of_subjects_takes_the_place_of_the_records_word_for_its_part_only():
    phrases = [phrase(1, "a", split="val"), phrase(2, "b", split="train"), phrase(3, "c", split="test")]
    parts = splits.by_split([*phrases, phrase(4, "d", split="test")], val={"b", "c"})
    assert {name: sorted(patients(part)) for name, part in parts.items()} == {
        "train": ["a"],
        "val": ["b", "c"],
        "test": ["d"],
    }
    parts = splits.by_split(phrases, val={"a"}, test={"b"})
    assert sorted(patients(parts["train"])) == ["c"]


def test_a_subject_on_both_lists_is_refused():
    with pytest.raises(MedgroundError, match=r"1 subjects are on both lists, for val and for test"):
        splits.by_split([], val={"a", "b"}, test={"b"})


def test_an_image_replaces_a_missing_patient():
    parts = splits.by_split([phrase(1, None), phrase(2, None)], test={"i2"})
    assert (names(parts["train"]), names(parts["test"])) == ({"p1"}, {"p2"})


@pytest.mark.parametrize("listed, said", [("90000001", "p90000001"), ("p90000001", "90000001")])
def test_a_subject_is_the_same_with_and_without_the_letter_of_mimic(listed, said):
    parts = splits.by_split([phrase(1, said), phrase(2, "p90000002")], test={listed})
    assert (names(parts["test"]), names(parts["train"])) == ({"p1"}, {"p2"})


def test_a_list_that_names_nobody_of_the_records_is_refused():
    with pytest.raises(MedgroundError, match=r"on the list for test; are subject_ids written"):
        splits.by_split([phrase(1, "p1"), phrase(2, None)], val={"p1"}, test={"7", "p8"})


def test_a_list_of_subjects_may_have_comments(tmp_path: Path):
    file = tmp_path / "val.txt"
    file.write_text("# of the first year\np10\n\n p11  # twice\np10\n")
    assert splits.subjects_in(file) == {"p10", "p11"}
    file.write_text("p10\np11\n", encoding="utf-8-sig")
    assert splits.subjects_in(file) == {"p10", "p11"}
    file.write_text("# none\n")
    with pytest.raises(MedgroundError, match="has no subject_id"):
        splits.subjects_in(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(MedgroundError, match="not a text file"):
        splits.subjects_in(file)


def test_a_choice_keeps_few_of_the_training_part_and_all_of_the_others(tmp_path: Path):
    phrases = cohort(40)
    for how in (
        splits.Choice(num_folds=4, fold=2, num_phrases=5),
        splits.Choice(num_folds=4, fold=2, subject_fraction=0.1),
    ):
        whole = splits.split(phrases, splits.Choice(num_folds=4, fold=2))
        parts = splits.split(phrases, how)
        assert 0 < len(parts["train"]) < 20 and names(parts["train"]) < names(whole["train"])
        assert (parts["val"], parts["test"]) == (whole["val"], whole["test"])
