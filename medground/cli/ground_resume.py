"""The way of ground that goes on: --resume. Only what the same command would have written is gone on with."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ASKED = ("phrase_id", "image_id", "text")
OPTIONS = {  # what a line says of the run that wrote it -> how a user chooses it
    "model": "model",
    "calibrated": "--calibration, or a model calibrated since",
    "coverage": "--coverage",
    "min_score": "--min-score",
    "min_present": "--min-present",
    "engine": "--backend",
    "leakage": "training",
    "as_hung": "--flip-correction",
}


class Held:
    """The answers that an earlier run left; `stated` is what those of this run will say of themselves."""

    def __init__(self, path: str, stated: dict[str, Any]):
        self.path, self._stated = path, tuple(stated.get(name) for name in OPTIONS)
        self._kept: deque[tuple[Any, ...]] = deque()

    def whole(self, lines: list[tuple[Any, ...]]) -> int:
        """How many lines to keep: the last image is asked again, with all its phrases together. Raises
        MedgroundError where a line is of another run."""
        from medground.errors import MedgroundError

        for said in lines:
            for name, before, now in zip(OPTIONS, said[len(ASKED) :], self._stated, strict=True):
                if before != now:
                    raise MedgroundError(
                        f"{self.path}: holds answers of another {OPTIONS[name]}; delete it, or ask as before"
                    )
        count = next((n for n in range(len(lines), 0, -1) if lines[n - 1][1] != lines[-1][1]), 0)
        self._kept = deque(line[: len(ASKED)] for line in lines[:count])
        return count

    def rest(self, asked: Iterable[Any], skipping: bool) -> Iterator[Any]:
        """Yield the phrases that have no answer yet; with `skipping`, of those between some were rejected.

        Raises MedgroundError where the answers are not those of the first phrases: they were other ones.
        """
        for phrase in asked:
            if self._kept and self._kept[0] == tuple(getattr(phrase, name) for name in ASKED):
                self._kept.popleft()
                continue
            if not skipping:
                self._refuse_others()
            yield phrase
        self._refuse_others()

    def _refuse_others(self) -> None:
        from medground.errors import MedgroundError

        if self._kept:
            raise MedgroundError(
                f"{self.path}: has answers to other phrases (phrase_id {self._kept[0][0]} is not asked now, "
                "or is in other words or another place); delete it, or ask as before"
            )


@contextmanager
def going_on(path: str, stated: dict[str, Any]) -> Iterator[tuple[Any, Held]]:
    """The stream to write to and what it holds; PATH appears when the block has succeeded."""
    from medground import jsonl

    held = Held(path, stated)
    with jsonl.go_on(path, (*ASKED, *OPTIONS), held.whole) as (stream, _):
        yield stream, held
