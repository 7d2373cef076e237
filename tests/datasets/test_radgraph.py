"""RadGraph and RadGraph-XL as sentences with triplets."""

import io
import json

import pytest

from medground.datasets import radgraph
from medground.errors import BadRecord, MedgroundError
from medground.reports import lexicon
from medground.reports.naming import Naming

NAMING = Naming(lexicon.load())
TEXT = "FINDINGS : Small left pleural effusion . No pneumothorax in the lungs . Possible frobnication ."


def entity(tokens: str, label: str, *relations: tuple[str, str]) -> dict:
    words, own = TEXT.split(" "), tokens.split(" ")
    first = next(n for n in range(len(words)) if words[n : n + len(own)] == own)
    return {
        "tokens": tokens,
        "label": label,
        "start_ix": first,
        "end_ix": first + len(own) - 1,
        "relations": [list(each) for each in relations],
    }


ENTITIES = {
    "1": entity("Small", "OBS-DP", ("modify", "4")),
    "2": entity("left", "ANAT-DP", ("modify", "3")),
    "3": entity("pleural", "ANAT-DP"),
    "4": entity("effusion", "OBS-DP", ("located_at", "3")),
    "5": entity("pneumothorax", "OBS-DA", ("located_at", "6")),
    "6": entity("lungs", "ANAT-DP"),
    "7": entity("frobnication", "OBS-U"),
}
FILE = {"p10/p10000032/s50414267.txt": {"text": TEXT, "entities": ENTITIES}}


def read(content: dict | bytes, take=radgraph.refuse):
    stream = io.BytesIO(content if isinstance(content, bytes) else json.dumps(content).encode())
    return list(radgraph.read(stream, NAMING.finding, NAMING.regions, take))


def said(sentences):
    return [(t.region, t.finding, t.existence, t.region_source) for s in sentences for t in s.triplets]


EXPECTED = [
    ("left lung", "pleural effusion", "present", "explicit"),
    ("right lung", "pneumothorax", "absent", "explicit"),
    ("left lung", "pneumothorax", "absent", "explicit"),
    (None, "frobnication", "uncertain", "none"),
]


def test_entities_and_relations_become_triplets():
    sentences = read(FILE)
    assert said(sentences) == EXPECTED
    assert {(each.study_id, each.subject_id) for each in sentences} == {("s50414267", "p10000032")}
    assert [each.text for each in sentences][1] == "No pneumothorax in the lungs ."


def test_spans_count_in_the_tokenised_text():
    for sentence in read(FILE):
        assert TEXT[sentence.start : sentence.end] == sentence.text
    effusion = read(FILE)[0].triplets[0]
    assert (
        TEXT[slice(*effusion.finding_span)] == "effusion"
        and TEXT[slice(*effusion.region_span)] == "left pleural"
    )


def test_labels_of_radgraph_xl_are_read():
    certainty = {"DP": "definitely present", "DA": "definitely absent", "U": "uncertain"}
    renamed = {}
    for key, each in ENTITIES.items():
        kind, _, sure = each["label"].partition("-")
        full = {"ANAT": "Anatomy", "OBS": "Observation"}[kind] + f"::{certainty[sure]}"
        renamed[key] = each | {"label": full}
    assert said(read({"s1.txt": {"text": TEXT, "entities": renamed}})) == EXPECTED


def test_a_large_file_is_read_piece_by_piece(monkeypatch):
    monkeypatch.setattr(radgraph, "CHUNK", 7)
    many = {f"p1/p10000000/s{n}.txt": FILE["p10/p10000032/s50414267.txt"] for n in range(3)}
    content = json.dumps({**many, "ä.txt": {"text": "Größe .", "entities": {}}}, ensure_ascii=False, indent=1)
    assert len(read(content.encode())) == 10


def test_a_bad_report_is_taken_and_the_rest_is_read():
    taken = []
    bad = {"text": "a b", "entities": {"1": {"label": "OBS-DP", "start_ix": 5, "end_ix": 5, "relations": []}}}
    sentences = read({"a.txt": bad, **FILE}, lambda line, problem: taken.append(str(problem)))
    assert said(sentences) == EXPECTED
    assert taken == ["<stdin>: report 1: entities[0]: its tokens are not in the text"]
    with pytest.raises(BadRecord):
        read({"a.txt": bad})


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a.txt": ', b"rubbish"])
def test_what_is_no_radgraph_is_refused(content):
    with pytest.raises(MedgroundError):
        read(content)


@pytest.mark.parametrize(
    "change",
    [{"start_ix": float("inf")}, {"end_ix": 10**400}, {"relations": [[1]]}, {"label": "OBS-XX"}],
    ids=str,
)
def test_odd_numbers_and_kinds_are_rejected_with_their_place(change):
    entity = {"start_ix": 0, "end_ix": 0, "label": "OBS-DP", "relations": []} | change
    report = {"text": "edema .", "entities": {"1": entity}}
    with pytest.raises(MedgroundError, match="report 1: "):
        list(radgraph.read(io.BytesIO(json.dumps({"p10/p1/s1.txt": report}).encode()), str, lambda *_: []))


@pytest.mark.parametrize("path, text", [("s\ud800.txt", "edema ."), ("s1.txt", "edema \udfff .")])
def test_half_of_a_surrogate_pair_is_rejected(path, text):
    source = io.BytesIO(json.dumps({path: {"text": text, "entities": {}}}).encode())
    with pytest.raises(MedgroundError, match="not Unicode"):
        list(radgraph.read(source, str, lambda *_: []))
