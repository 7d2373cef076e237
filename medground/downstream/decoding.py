"""Decoding of texts token by token: greedy and beam search, and token ids as text.

A model is a step function: `step(tokens, sources)` returns (R, V) logits of the token after each of (R, L)
rows of token ids. Row r continues the text of source `sources[r]`, such as an image.

A text is (token ids after the start, whether it ended). Its score is the sum of the log probabilities of its
tokens, the end included, divided by their number to the power `length_penalty`. Log probabilities are rounded
to `DIGITS` digits, and of equal scores the lower token id wins. So the last bits of a sum, which depend on
the batch size, do not decide.

Letters: R rows, L tokens, N sources, K beams, V vocabulary.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medground.errors import MedgroundError

Step = Callable[[Tensor, Tensor], Tensor]
Text = tuple[list[int], bool]
DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The settings of a search.

    start, end: token ids. most: the maximum number of tokens after the start, the end included. beams: 1 is
    greedy. never: token ids that no text has.
    """

    start: int
    end: int
    most: int
    beams: int = 1
    length_penalty: float = 1.0
    never: Collection[int] = ()

    def __post_init__(self) -> None:
        if self.most < 1 or self.beams < 1:
            raise MedgroundError("decoding needs at least one token and one beam")


@torch.inference_mode()
def decode(step: Step, count: int, how: Decoding, device: torch.device | str = "cpu") -> list[Text]:
    """Return the text of each of `count` sources: the most probable next token each time, or beam search."""
    if not count:
        return []
    return _greedy(step, count, how, device) if how.beams == 1 else _beams(step, count, how, device)


def log_probabilities(logits: Tensor, never: Collection[int] = ()) -> Tensor:
    """Return (R, V) rounded log probabilities of (R, V) logits; -inf for the tokens of `never`."""
    logits = logits.double()
    if never:
        logits[:, sorted(never)] = -torch.inf
    return logits.log_softmax(dim=1).round(decimals=DIGITS)


def _greedy(step: Step, count: int, how: Decoding, device: torch.device | str) -> list[Text]:
    texts: list[list[int]] = [[] for _ in range(count)]
    ended = [False] * count
    sources = torch.arange(count, device=device)
    tokens = torch.full((count, 1), how.start, device=device)
    for _ in range(how.most):
        chosen = log_probabilities(step(tokens, sources), how.never).sort(dim=1, descending=True, stable=True)
        best = chosen.indices[:, :1]
        for source, token in zip(sources.tolist(), best[:, 0].tolist(), strict=True):
            ended[source] = token == how.end
            texts[source] += [] if ended[source] else [token]
        going = best[:, 0] != how.end
        if not going.any():
            break
        sources, tokens = sources[going], torch.cat([tokens, best], dim=1)[going]
    return list(zip(texts, ended, strict=True))


@dataclass
class _Search:
    """The search for the text of one source: the K live texts, and finished ones with their scores."""

    source: int
    live: list[tuple[float, list[int]]] = field(default_factory=lambda: [(0.0, [])])
    finished: list[tuple[float, list[int], bool]] = field(default_factory=list)

    def extend(self, scores: list[float], tokens: list[int], beams: list[int], how: Decoding) -> None:
        """Extend the texts by candidates in falling order: score, last token and beam of each."""
        length, before, self.live = len(self.live[0][1]) + 1, self.live, []
        for place, (score, token, beam) in enumerate(zip(scores, tokens, beams, strict=True)):
            if score == -torch.inf or len(self.live) == how.beams:
                break
            text = before[beam][1]
            if token != how.end:
                self.live.append((score, [*text, token]))
            elif place < how.beams:
                self.finished.append((score / length**how.length_penalty, text, True))
        if length == how.most:
            self.finished += [(score / length**how.length_penalty, text, False) for score, text in self.live]
            self.live = []
        elif self._is_over(length, how):
            self.live = []

    def _is_over(self, length: int, how: Decoding) -> bool:
        """Return whether K texts are finished, and no live one has a better score at its present length."""
        if len(self.finished) < how.beams or not self.live:
            return False
        best = sorted((each[0] for each in self.finished), reverse=True)[how.beams - 1]
        return bool(self.live[0][0] / length**how.length_penalty <= best)

    def best(self) -> Text:
        """Return the finished text with the best score, the first of equal ones; an empty one without any."""
        if not self.finished:
            return [], False
        _, text, ended = max(self.finished, key=lambda each: each[0])
        return text, ended


def _beams(step: Step, count: int, how: Decoding, device: torch.device | str) -> list[Text]:
    searches = [_Search(source) for source in range(count)]
    for _ in range(how.most):
        going = [each for each in searches if each.live]
        if not going:
            break
        rows = [(each.source, score, text) for each in going for score, text in each.live]
        tokens = torch.tensor([[how.start, *text] for _, _, text in rows], device=device)
        scores = log_probabilities(
            step(tokens, torch.tensor([row[0] for row in rows], device=device)), how.never
        )
        scores += torch.tensor([row[1] for row in rows], dtype=torch.double, device=device)[:, None]
        ends = torch.tensor([len(each.live) for each in going]).cumsum(0).tolist()
        for search, end in zip(going, ends, strict=True):
            _extend(search, scores[end - len(search.live) : end], how)
    return [each.best() for each in searches]


def _extend(search: _Search, scores: Tensor, how: Decoding) -> None:
    """Extend a search by (K, V) scores of its texts with one more token."""
    flat = scores.flatten().sort(descending=True, stable=True)  # K texts that end leave K others among 2 K
    kept = flat.indices[: 2 * how.beams]
    beams, tokens = kept // scores.shape[1], kept % scores.shape[1]
    search.extend(flat.values[: 2 * how.beams].tolist(), tokens.tolist(), beams.tolist(), how)
