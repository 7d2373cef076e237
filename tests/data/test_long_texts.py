"""Texts beyond the text length are shortened and counted; their words are never logged."""

import logging

from medground.data.long_texts import LongTexts
from medground.models import encoders

LONG = "opacity " + "which is described at length " * 20 + "in the {} lower lobe"


def test_long_texts_are_shortened_and_counted(caplog):
    tokenizer = encoders.build_tokenizer([LONG.format("left"), LONG.format("right")])
    texts = LongTexts(tokenizer, 16)
    sides = [texts.fitted(LONG.format(side)) for side in ("left", "right")]
    assert texts.fitted("opacity") == "opacity"
    assert all(f"{side} lower lobe" in each for side, each in zip(("left", "right"), sides, strict=True))
    ids, _ = encoders.tokenize(tokenizer, sides, 16)
    assert ids.shape[1] <= 16
    assert (ids[0] != ids[1]).any()
    with caplog.at_level(logging.WARNING):
        texts.warn("phrases")
    assert "2 phrases are longer than the text length of the model, 16 tokens" in caplog.text
    assert "lobe" not in caplog.text


def test_texts_that_fit_are_not_warned_of(caplog):
    texts = LongTexts(encoders.build_tokenizer(["left lung"]), 16)
    assert texts.fitted("left lung") == "left lung"
    texts.warn("phrases")
    assert not caplog.records
