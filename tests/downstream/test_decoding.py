"""Greedy and beam search against brute force and a slow search over a tiny vocabulary."""

import itertools

import pytest
import torch

from medground.downstream.decoding import Decoding, decode, log_probabilities
from medground.errors import MedgroundError

START, END = 0, 1


class Table:
    """A model whose next token depends on the whole text and the source, by random tables."""

    def __init__(self, vocabulary=4, seed=0):
        self.vocabulary, self.seed, self.most_rows = vocabulary, seed, 0

    def logits(self, text, source):
        key = hash((self.seed, source, tuple(text))) % 2**31
        return torch.randn(self.vocabulary, generator=torch.Generator().manual_seed(key)) * 2

    def __call__(self, tokens, sources):
        self.most_rows = max(self.most_rows, len(tokens))
        assert tokens[:, 0].eq(START).all()
        return torch.stack(
            [self.logits(text, n) for text, n in zip(tokens.tolist(), sources.tolist(), strict=True)]
        )

    def score(self, text, source, how):
        """The score of a text, ended or of full length, token by token."""
        tokens, total = [START, *text], 0.0
        for length in range(1, len(tokens)):
            each = log_probabilities(self.logits(tokens[:length], source)[None], how.never)[0]
            total += each[tokens[length]].item()
        return total / len(text) ** how.length_penalty


def every_text(vocabulary, how):
    """All texts that end, and those of full length that do not."""
    words = [each for each in range(vocabulary) if each != END and each not in how.never]
    for length in range(how.most):
        for text in itertools.product(words, repeat=length):
            yield [*text, END]
    yield from map(list, itertools.product(words, repeat=how.most))


def slow_beams(model, source, how):
    """Beam search with lists, one source at a time."""
    live, finished = [(0.0, [START])], []
    for length in range(1, how.most + 1):
        found = []
        for beam, (total, text) in enumerate(live):
            each = log_probabilities(model.logits(text, source)[None], how.never)[0].tolist()
            found += [
                (total + score, beam, token) for token, score in enumerate(each) if token not in how.never
            ]
        found.sort(key=lambda one: (-one[0], one[1], one[2]))
        texts = [(total, [*live[beam][1], token]) for total, beam, token in found]
        norm = length**how.length_penalty
        finished += [(total / norm, text) for total, text in texts[: how.beams] if text[-1] == END]
        live = [each for each in texts if each[1][-1] != END][: how.beams]
        if length == how.most:
            finished += [(total / norm, text) for total, text in live]
        best = sorted((score for score, _ in finished), reverse=True)[: how.beams]
        if not live or (len(best) == how.beams and live[0][0] / norm <= best[-1]):
            break
    text = max(finished, key=lambda each: each[0])[1][1:]
    return (text[:-1], True) if text[-1] == END else (text, False)


def whole(found):
    return [[*text, END] if ended else text for text, ended in found]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_with_enough_beams_the_best_of_all_texts_is_found(seed, penalty):
    model = Table(seed=seed)
    how = Decoding(start=START, end=END, most=4, beams=150, length_penalty=penalty, never={3})
    for source, text in enumerate(whole(decode(model, 2, how))):
        best = max(model.score(each, source, how) for each in every_text(4, how))
        assert model.score(text, source, how) == pytest.approx(best)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 3, 5])
def test_beam_search_is_that_of_a_slow_one(beams, penalty):
    for seed in range(6):
        model = Table(vocabulary=6, seed=seed)
        how = Decoding(start=START, end=END, most=7, beams=beams, length_penalty=penalty)
        found = decode(model, 4, how)
        assert found == [slow_beams(model, source, how) for source in range(4)]
        assert model.most_rows <= 4 * beams


def test_greedy_takes_the_most_probable_token_each_time():
    for seed in range(6):
        model, how = Table(vocabulary=5, seed=seed), Decoding(start=START, end=END, most=6)
        for source, text in enumerate(whole(decode(model, 5, how))):
            expected = [START]
            while expected[-1] != END and len(expected) <= how.most:
                expected.append(int(model.logits(expected, source).argmax()))
            assert text == expected[1:]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_does_not_depend_on_the_others(beams):
    model, how = Table(vocabulary=6, seed=9), Decoding(start=START, end=END, most=6, beams=beams)
    together = decode(model, 5, how)
    for source in range(5):
        alone = decode(lambda tokens, sources, n=source: model(tokens, sources + n), 1, how)
        assert alone == together[source : source + 1]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_text_that_reaches_its_maximum_has_not_ended(beams):
    def step(tokens, sources):
        return torch.tensor([[0.0, -9.0, 5.0]]).expand(len(tokens), -1).clone()

    how = Decoding(start=START, end=END, most=3, beams=beams)
    assert decode(step, 1, how) == [([2, 2, 2], False)]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_text_may_be_empty(beams):
    def step(tokens, sources):
        return torch.tensor([[0.0, 9.0, 1.0]]).expand(len(tokens), -1).clone()

    assert decode(step, 2, Decoding(start=START, end=END, most=3, beams=beams)) == [([], True)] * 2
    assert decode(step, 0, Decoding(start=START, end=END, most=3, beams=beams)) == []


@pytest.mark.parametrize("beams", [1, 3])
def test_the_last_bits_of_a_logit_do_not_decide(beams):
    def step(tokens, sources, by=0.0):
        return torch.tensor([[-9.0, -2.0, 1.0, 1.0 + by]]).expand(len(tokens), -1).clone()

    how = Decoding(start=START, end=END, most=4, beams=beams)
    shifted = decode(lambda *given: step(*given, by=1e-6), 1, how)
    assert shifted == decode(step, 1, how)


def test_a_search_without_tokens_or_beams_is_refused():
    for wrong in ({"most": 0}, {"most": 1, "beams": 0}):
        with pytest.raises(MedgroundError, match="at least one token and one beam"):
            Decoding(start=START, end=END, **wrong)
