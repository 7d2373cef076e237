import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.records import Sentence, Triplet
from medground.reports.clauses import part_for

# text, {region: (finding words, region words)}, {region: its part}
SENTENCES = [
    (
        "Small right effusion and mild left basal atelectasis.",
        {"right": ("effusion", "right"), "left": ("atelectasis", "left basal")},
        {"right": "Small right effusion", "left": "mild left basal atelectasis."},
    ),
    (
        "Opacities in the right upper lobe and left lower lobe.",
        {"right": ("Opacities", "right upper lobe"), "left": ("Opacities", "left lower lobe")},
        {"right": "Opacities in the right upper lobe", "left": "Opacities in the left lower lobe."},
    ),
    (
        "Opacities in the upper, middle, and lower zones today.",
        {"u": ("Opacities", "upper"), "m": ("Opacities", "middle"), "l": ("Opacities", "lower zones")},
        {
            "u": "Opacities in the upper",
            "m": "Opacities in the middle",
            "l": "Opacities in the lower zones today.",
        },
    ),
    (
        "Bilateral pleural effusions.",
        {"right": ("pleural effusions", "Bilateral"), "left": ("pleural effusions", "Bilateral")},
        {"right": "Bilateral pleural effusions.", "left": "Bilateral pleural effusions."},
    ),
    (
        "Cardiomegaly with a left effusion.",
        {"heart": ("Cardiomegaly", None), "left": ("effusion", "left")},
        {"heart": "Cardiomegaly", "left": "a left effusion."},
    ),
]


def sentence(text, words, start=0):
    def span(part):
        at = text.find(part) if part else -1
        return (start + at, start + at + len(part)) if at >= 0 else None

    triplets = [
        Triplet(
            region=region,
            finding="f",
            existence="present",
            finding_span=span(finding) or (0, 0),
            region_span=span(place),
            cue=None,
            cue_span=None,
            region_source="explicit",
            rule="test",
        )
        for region, (finding, place) in words.items()
    ]
    return Sentence(
        study_id="s",
        sentence_id="s|0",
        section="findings",
        start=start,
        end=start + len(text),
        text=text,
        triplets=triplets,
    )


@pytest.mark.parametrize("start", [0, 40])
@pytest.mark.parametrize("text, words, parts", SENTENCES)
def test_each_region_gets_its_words(text, words, parts, start):
    cut = {region: part_for(region, sentence(text, words, start)) for region in words}
    assert cut == parts


def test_a_region_named_in_an_earlier_sentence_gets_the_whole():
    one = sentence("This is new.", {"left": ("no such words", None)}, start=10)
    assert part_for("left", one) == "This is new."


WORDS = st.lists(st.sampled_from(["one", "two", "and", "three,", "four", "or", "five;"]), min_size=3)


@pytest.mark.slow
@given(WORDS, st.data())
def test_a_part_holds_its_own_words_and_no_new_ones(words, data):
    text = " ".join(words)
    named = {name: (data.draw(st.sampled_from(words)), data.draw(st.sampled_from(words))) for name in "ab"}
    for region, own in named.items():
        part = part_for(region, sentence(text, named))
        assert _is_subsequence(re.findall(r"\w+", part), re.findall(r"\w+", text))
        assert all(word.strip(",;") in part for word in own)


def _is_subsequence(part, whole):
    rest = iter(whole)
    return all(word in rest for word in part)
