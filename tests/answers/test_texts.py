"""Boxes in the text of models: one box, several, none, words around them, and lists that are broken off."""

import json

import pytest

from medground.answers import texts
from medground.errors import BadRecord

A, B = (118.0, 491.0, 432.0, 753.0), (10.0, 20.0, 30.0, 40.0)


def turned(box):
    return [box[1], box[0], box[3], box[2]]


def integers(box):
    return [int(each) for each in box]


def fenced(items):
    return f"Here are the boxes:\n```json\n{json.dumps(items, indent=1)}\n```\nDone [1]."


READ = [
    (texts.qwen, fenced([{"bbox_2d": integers(A), "label": "opacity"}]), [A]),
    (texts.qwen, fenced([{"label": "x", "bbox_2d": integers(A)}, {"bbox_2d": integers(B)}]), [A, B]),
    (texts.qwen, str([{"bbox_2d": [integers(A), integers(B)], "label": "it's"}]), [A, B]),
    (texts.qwen, '{"bbox_2d": ["118", "491", "432.0", "753"]}', [A]),
    (texts.qwen, "At [10, 20, 30, 40]: " + fenced([{"bbox_2d": integers(A)}]), [A]),
    (texts.qwen, "The opacity<|box_start|>(118,491),(432,753)<|box_end|><|im_end|>", [A]),
    (texts.qwen, "<ref>it</ref><box>(118,491),(432,753)</box> <box>(10, 20), (30, 40)</box>", [A, B]),
    (texts.qwen, "It is at [118, 491, 432, 753] and (10, 20, 30, 40).", [A, B]),
    (texts.qwen, "(118, 491), (432, 753)", [A]),
    (texts.qwen, "<think>Maybe [1, 2, 3, 4].</think>" + fenced([{"bbox_2d": integers(A)}]), [A]),
    (texts.qwen, "It is [1, 2, 3, 4]?\n</think>\n" + fenced([{"bbox_2d": integers(A)}]), [A]),
    (texts.qwen, "<think>It may be at [118, 491, 432, 753], or", []),
    (
        texts.gemini,
        "<unused94>thought [1, 2, 3, 4]<unused95>" + fenced([{"box_2d": integers(turned(A))}]),
        [A],
    ),
    (texts.gemini, fenced([{"box_2d": integers(turned(A)), "label": "opacity"}]), [A]),
    (texts.gemini, json.dumps({"box_2d": integers(turned(B))}), [B]),
    (texts.gemini, str(integers(turned(A))), [A]),
    (texts.paligemma, "<loc0491><loc0118><loc0753><loc0432> opacity", [A]),
    (
        texts.paligemma,
        "<loc0491><loc0118><loc0753><loc0432> a ; <loc0020><loc0010><loc0040><loc0030> b",
        [A, B],
    ),
    (texts.paligemma, "<loc0491><loc0118><loc0753><loc0432><seg001><seg002> a<eos>", [A]),
    (texts.florence_2, "</s><s>opacity<loc_118><loc_491><loc_432><loc_753></s>", [[n + 0.5 for n in A]]),
    (
        texts.florence_2,
        "a<loc_118><loc_491><loc_432><loc_753><loc_10><loc_20><loc_30><loc_40>",
        [[n + 0.5 for n in A], [n + 0.5 for n in B]],
    ),
    (
        texts.florence_2,
        json.dumps({"<CAPTION_TO_PHRASE_GROUNDING>": {"bboxes": [A, B], "labels": "ab"}}),
        [A, B],
    ),
    (texts.florence_2, str({"<OD>": {"bboxes": [list(A)], "labels": ["a"]}}), [A]),
    (texts.deepseek_vl2, "<|ref|>it<|/ref|><|det|>[[118, 491, 432, 753]]<|/det|><｜end▁of▁sentence｜>", [A]),
    (texts.deepseek_vl2, "<|det|>[[118, 491, 432, 753], [10, 20, 30, 40]]<|/det|>", [A, B]),
    (
        texts.deepseek_vl2,
        "<|ref|>a<|/ref|><|det|>[118,491,432,753]<|/det|>, <|det|>[[10,20,30,40]]<|/det|>",
        [A, B],
    ),
    (texts.deepseek_vl2, "opacity[[118, 491, 432, 753]]", [A]),
    (texts.chexagent_2, "<|ref|> it <|/ref|> <|box|> (118,491),(432,753) <|/box|>", [A]),
    (texts.chexagent_2, "<|box|>(118,491),(432,753)<|/box|><|box|> (10, 20), (30, 40)<|/box|>", [A, B]),
    (texts.maira_2, "<obj>a<box><x10><y20><x29><y39></box></obj>", [[0.105, 0.205, 0.295, 0.395]]),
    (
        texts.maira_2,
        "[('a', [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)])]",
        [(0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)],
    ),
    (texts.shares, "It is at [0.1, 0.20, 0.3, .4].", [(0.1, 0.2, 0.3, 0.4)]),
]


@pytest.mark.parametrize(("parse", "text", "boxes"), READ)
def test_boxes_are_read_in_order(parse, text, boxes):
    found = parse(text)
    assert [list(each) for each in found.boxes] == [pytest.approx(list(each)) for each in boxes]
    assert found.unreadable == 0


def test_only_the_dictionary_of_florence_2_has_another_frame():
    assert texts.florence_2('{"bboxes": [[1, 2, 3, 4]]}').frame == "original"
    assert texts.florence_2("<loc_1><loc_2><loc_3><loc_4>").frame is None


BROKEN = [
    (texts.qwen, '```json\n[{"bbox_2d": [118, 491, 432, 753]}, {"bbox_2d": [10, 2', 1, 1),
    (texts.qwen, '[{"bbox_2d": [118, 491, 432]}]', 0, 1),
    (texts.qwen, '[{"bbox_2d": [118, 491, 432, 753, 9]}, {"bbox_2d": "left"}]', 0, 2),
    (texts.qwen, "<|box_start|>(118,491),(432,753)<|box_end|><|box_start|>(1,", 1, 1),
    (texts.gemini, '[{"box_2d": [118, 491, 4', 0, 1),
    (texts.paligemma, "<loc0491><loc0118><loc0753> opacity", 0, 1),
    (texts.paligemma, "<loc0491><loc0118><loc0753><loc0432><loc0001>", 1, 1),
    (texts.florence_2, "a<loc_1><loc_2><loc_3><loc_4><loc_5>", 1, 1),
    (texts.florence_2, '{"<OD>": {"bboxes": [[1, 2, 3, 4], [5, 6', 1, 1),
    (texts.deepseek_vl2, "<|ref|>a<|/ref|><|det|>[[220, <|ref|>b<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>", 1, 1),
    (texts.deepseek_vl2, "<|det|>[[1, 2, 3, 4], [0, 5, 533, 17, 999", 1, 1),
    (texts.deepseek_vl2, "<|det|>[[470,]]<|/det|>", 0, 1),
    (texts.chexagent_2, "<|box|> (12,49),(43,75) <|/box|> <|box|> (1,2),(3", 1, 1),
    (texts.maira_2, "<box><x1><y2><x3><y4></box><box><x1><y2>", 1, 1),
    (texts.shares, "[0.1, 0.2, 0.3, 0.4] and [0.5, 0.", 1, 1),
]


@pytest.mark.parametrize(("parse", "text", "boxes", "unreadable"), BROKEN)
def test_what_is_broken_off_is_counted_and_what_is_whole_is_read(parse, text, boxes, unreadable):
    found = parse(text)
    assert (len(found.boxes), found.unreadable) == (boxes, unreadable)


NOTHING = ["", "No opacity is seen.", "```json\n[]\n```", "[]", '[{"label": "none"}]', "See [1] and (2, 3)."]
NOTHING += [
    '{"bbox_2d": []}',
    '{"bbox_2d": null}',
    '{"box_2d": [[]]}',
    "{'bboxes': [], 'labels': []}",
    "<|det|>[]",
]


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_without_a_box_has_none(text):
    for parse in (texts.qwen, texts.gemini, texts.paligemma, texts.florence_2, texts.deepseek_vl2):
        assert parse(text) == texts.Found([], 0, parse(text).frame)
    for parse in (texts.chexagent_2, texts.maira_2, texts.shares):
        assert parse(text) == texts.Found([])


def test_a_bin_of_many_digits_is_refused():
    with pytest.raises(BadRecord, match="from 0 to 999"):
        texts.florence_2("<loc_1234567><loc_2><loc_3><loc_4>")
