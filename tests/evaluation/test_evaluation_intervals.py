"""Intervals by drawing patients, and the scores made of them."""

import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import case_of, phrase_of, under

from medground.evaluation.cases import Case, Cases
from medground.evaluation.protocols import named
from medground.evaluation.stats import bootstrap, groups, scoring
from medground.evaluation.stats.bootstrap import Split
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Measured, Resampling
from medground.records import ScoredBox


def test_draws_take_as_many_patients_as_there_are():
    weights = np.vstack(list(bootstrap.draw_weights(7, 50, seed=1)))
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all() and (weights == weights.round()).all()


def test_draws_are_the_same_for_any_block_size(monkeypatch):
    whole = np.vstack(list(bootstrap.draw_weights(9, 100, seed=1)))
    monkeypatch.setattr(bootstrap, "CELLS", 50)
    assert (np.vstack(list(bootstrap.draw_weights(9, 100, seed=1))) == whole).all()


@given(st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_ratios_over_draws_against_lists_of_patients(clusters, seed):
    rng = np.random.default_rng(seed)
    size = 12
    owners = np.concatenate([np.arange(clusters), rng.integers(0, clusters, size - clusters)])
    tops = [rng.random(size).round(2) for _ in range(2)]
    bottoms = [rng.integers(0, 3, size).astype(float) for _ in range(2)]
    masks = rng.random((3, size)) < 0.5
    ratio, split = Ratio(list(zip(tops, bottoms, strict=True))), Split(owners, masks, clusters)
    for weights in bootstrap.draw_weights(clusters, 4, seed):
        drawn = under(ratio, split, weights)
        for d, row in enumerate(weights):
            items = [
                i for c in range(clusters) for _ in range(int(row[c])) for i in range(size) if owners[i] == c
            ]
            for g, mask in enumerate(masks):
                kept = [i for i in items if mask[i]]
                sums = [
                    (sum(t[i] for i in kept), sum(b[i] for i in kept))
                    for t, b in zip(tops, bottoms, strict=True)
                ]
                if all(bottom for _, bottom in sums):
                    assert drawn[d, g] == pytest.approx(sum(t / b for t, b in sums) / 2)
                else:
                    assert np.isnan(drawn[d, g])


def slow_interval(values: list[float], patients: list[str], draws: int) -> tuple[float, float]:
    """Patients drawn one by one, phrases of each put on a list, the list's mean; the middle 95 % of those."""
    of_patient = defaultdict(list)
    for value, patient in zip(values, patients, strict=True):
        of_patient[patient].append(value)
    rng, means = random.Random(5), []
    for _ in range(draws):
        drawn = [v for _ in of_patient for v in of_patient[rng.choice(list(of_patient))]]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return means[round(0.025 * draws)], means[round(0.975 * draws) - 1]


@pytest.mark.slow
def test_the_interval_is_that_of_drawing_patients_one_by_one():
    rng = random.Random(2)
    patients = [f"s{i // 4}" for i in range(120)]
    centre = {p: rng.random() for p in patients}
    values = [centre[p] + rng.gauss(0, 0.05) for p in patients]
    owners = np.array([int(p[1:]) for p in patients])
    figure = mean_over(values).bind(Split(owners, np.ones((1, 120), dtype=bool), 30))
    sample = bootstrap.resample({"m": figure}, 30, 20_000, seed=0)["m"]
    low, high = bootstrap.interval(sample.draws[:, 0])
    assert (low, high) == pytest.approx(slow_interval(values, patients, 20_000), abs=0.006)
    assert high - low > 0.15  # phrases drawn one by one would say 0.1: too sure of itself


def test_p_is_small_where_the_interval_leaves_zero_out_and_one_without_a_difference():
    draws = np.linspace(-0.02, 1.0, 10_001)
    assert bootstrap.p_value(draws) == pytest.approx(2 * 0.02 / 1.02, abs=0.001)
    assert bootstrap.p_value(-draws) == bootstrap.p_value(draws)
    assert bootstrap.p_value(np.zeros(100)) == 1
    assert bootstrap.p_value(np.ones(100)) == pytest.approx(2 / 101)
    assert bootstrap.p_value(np.full(3, np.nan)) is None


def measured(cases: list[Case], **others: list[Case]) -> Measured:
    phrases, measure = [case.phrase for case in cases], named("single-box").figures
    parted = groups.of_phrases(phrases)
    return Measured(
        protocol="single-box", groups=parted, owners=scoring.clusters(phrases), counts=parted.counts,
        own=measure(Cases(cases)), **{name: measure(Cases(each)) for name, each in others.items()},
    )  # fmt: skip


def test_macro_is_the_mean_over_categories_and_gain_is_over_the_prior():
    rng = random.Random(1)
    own = [case_of(rng, i, true=1) for i in range(40)]
    fixed = [Case(case.phrase, [ScoredBox(box=(0, 0, 50, 50), score=1)]) for case in own]
    found = {(s.group, s.metric): s for s in scoring.score(measured(own, prior=fixed), Resampling(200, 0))}
    parts = [found[f"category:{name}", "miou"].value for name in ("Edema", "Nodule")]
    assert found["macro", "miou"].value == pytest.approx(sum(parts) / 2)
    assert found["macro", "miou"].n == 40
    own_value, prior_value = found["all", "miou"].value, found["all", "prior_miou"].value
    assert found["all", "gain_miou"].value == pytest.approx(own_value - prior_value)
    assert all(s.low <= s.value <= s.high for s in found.values() if s.group == "all")


def test_a_difference_is_paired():
    """Two models that differ by the same little on every phrase: no doubt about the sign."""
    rng = random.Random(1)
    phrases = [phrase_of(i, [(0, 0, rng.randint(20, 100), 100)]) for i in range(40)]
    narrow, wide = [
        [Case(p, [ScoredBox(box=(0, 0, p.boxes[0][2] * part, 100), score=1)]) for p in phrases]
        for part in (0.5, 0.52)
    ]
    found = {
        s.metric: s
        for s in scoring.score(measured(wide, other=narrow), Resampling(500, 0))
        if s.group == "all"
    }
    assert found["difference_miou"].value == pytest.approx(0.02)
    assert found["difference_miou"].low == pytest.approx(0.02)
    assert found["difference_miou"].extra["p"] < 0.01


def test_one_patient_alone_gives_no_interval():
    cases = [case_of(random.Random(i), 0, true=1) for i in range(3)]
    assert {(s.low, s.high) for s in scoring.score(measured(cases), Resampling(100, 0))} == {(None, None)}


def test_no_phrase_gives_no_score():
    assert list(scoring.score(measured([]), Resampling(100, 0))) == []


def test_without_a_subject_the_image_stands_for_the_patient(caplog):
    phrases = [phrase_of(i, [(0, 0, 1, 1)], subject_id=None) for i in range(4)]
    assert scoring.clusters(phrases).tolist() == [0, 0, 1, 1]
    scoring.warn_of_lone_images(phrases)
    assert "no subject_id for 2 images" in caplog.text


def test_a_patient_with_and_without_the_letter_of_mimic_cxr_is_one_patient():
    names = ("p10000032", "10000032", "p1x", "1x")
    phrases = [phrase_of(n, [(0, 0, 1, 1)], subject_id=name) for n, name in enumerate(names)]
    assert scoring.clusters(phrases).tolist() == [0, 0, 1, 2]
