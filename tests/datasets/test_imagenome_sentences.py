import json

import pytest
from imagenome_files import LUNG

from medground.datasets import imagenome_sentences
from medground.errors import BadRecord

ZONE = LUNG | {
    "bbox_name": "right lower lung zone",
    "phrases": LUNG["phrases"][1:],
    "phrase_IDs": LUNG["phrase_IDs"][1:],
    "sections": ["finalreport"],
    "attributes": [["disease|yes|pneumonia"]],
    "severity_cues": [[]],
    "comparison_cues": [[]],
}


def graph(*attributes, image="i1", **more):
    return {
        "image_id": image,
        "patient_id": 10000032,
        "study_id": 50414267,
        "objects": [],
        "attributes": list(attributes),
        **more,
    }


@pytest.fixture
def read(tmp_path):
    def of(*graphs):
        for each in graphs:
            (tmp_path / f"{each['image_id']}_SceneGraph.json").write_text(json.dumps(each))
        return list(imagenome_sentences.read(tmp_path))

    return of


def said(sentence):
    return [(each.region, each.finding, each.existence) for each in sentence.triplets]


def test_a_phrase_about_several_regions_is_one_sentence(read):
    clear, opacity = read(graph(ZONE, LUNG))
    assert said(clear) == [
        ("right lung", "lung opacity", "absent"),
        ("right lung", "pneumothorax", "absent"),
    ]
    assert said(opacity) == [
        ("right lower lung zone", "pneumonia", "present"),
        ("right lung", "lung opacity", "uncertain"),
    ]
    assert (clear.sentence_id, opacity.sentence_id) == ("s50414267|3", "s50414267|12")
    assert (clear.study_id, clear.subject_id, clear.section) == ("s50414267", "p10000032", "finalreport")


def test_spans_count_within_the_sentence(read):
    for sentence in read(graph(LUNG)):
        assert (sentence.start, sentence.end) == (0, len(sentence.text))
        assert all(each.finding_span == (0, len(sentence.text)) for each in sentence.triplets)


def test_cues_become_severity_and_change(read):
    _, opacity = read(graph(LUNG))
    assert (opacity.triplets[0].severity, opacity.triplets[0].change) == ("mild", "no change")


def test_two_images_of_a_study_give_its_sentences_once(read):
    assert len(read(graph(LUNG), graph(LUNG, image="i2"))) == 2


def test_an_unknown_region_is_no_region(read):
    unknown, _ = read(graph(LUNG | {"bbox_name": "unknown"}))
    assert (unknown.triplets[0].region, unknown.triplets[0].region_source) == (None, "none")


def test_a_region_whose_lists_do_not_run_parallel_is_named(read):
    with pytest.raises(BadRecord, match=r"attributes\[1\]\.sections: expected 2 items, as many as phrases"):
        read(graph(ZONE, LUNG | {"sections": []}))


def test_the_sentences_can_be_aligned(read):
    from medground.pairing import pair_sentences
    from medground.records import Anatomy, Region

    image = Anatomy(
        image_id="i1",
        study_id="s50414267",
        path="i1.jpg",
        width=100,
        height=100,
        regions=[Region(name="right lower lung zone", box=(1, 2, 3, 4))],
    )
    [pair] = pair_sentences(read(graph(LUNG, ZONE)), [image])
    assert (pair.regions, pair.rule) == (["right lower lung zone"], "S1")
