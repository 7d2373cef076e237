"""`ground --resume`: continue the output file of an interrupted run of the same command."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from medground import resuming
from medground.errors import MedgroundError
from medground.records import Phrase

IDENTITY = ("phrase_id", "image_id", "text")
OPTIONS = {  # key of a grounding -> the option that decides it
    "model": "model",
    "calibrated": "--calibration, or a model calibrated since",
    "coverage": "--coverage",
    "min_score": "--min-score",
    "min_present": "--min-present",
    "engine": "--backend",
    "leakage": "training",
    "as_hung": "--flip-correction",
    "prompt": "--prompt",
}


class Earlier:
    """The groundings of an earlier run in a file.

    `stated` are the keys by which this run's groundings state its options. The earlier ones must match.
    """

    def __init__(self, path: str, stated: dict[str, Any]):
        self.path, self._stated = path, tuple(stated.get(name) for name in OPTIONS)
        self._kept: deque[tuple[Any, ...]] = deque()
        self._count = 0

    def complete(self, lines: list[tuple[Any, ...]]) -> int:
        """Return the number of lines to keep: all except those of the last image, which may be incomplete.

        Raises MedgroundError if a line is of a run with other options.
        """
        for line in lines:
            for name, before, now in zip(OPTIONS, line[len(IDENTITY) :], self._stated, strict=True):
                if before != now:
                    raise MedgroundError(
                        f"{self.path}: holds groundings of another {OPTIONS[name]}; delete it, "
                        "or use the options of the earlier run"
                    )
        count = next((n for n in range(len(lines), 0, -1) if lines[n - 1][1] != lines[-1][1]), 0)
        self._kept = deque(line[: len(IDENTITY)] for line in lines[:count])
        self._count = count
        return count

    def rest(self, phrases: Iterable[Phrase], skipping: bool) -> Iterator[Phrase]:
        """Yield the phrases that have no grounding yet.

        With `skipping`, phrases between the kept ones may have been rejected. Raises MedgroundError if the
        groundings are not those of the first phrases.
        """
        for phrase in phrases:
            if self._kept and self._kept[0] == tuple(getattr(phrase, name) for name in IDENTITY):
                self._kept.popleft()
                continue
            if not skipping:
                self._refuse_others()
            yield phrase
        self._refuse_others()

    def _line(self) -> int:
        return self._count - len(self._kept) + 1

    def _refuse_others(self) -> None:
        if self._kept:
            raise MedgroundError(
                f"{self.path}: holds groundings of other phrases (that of line {self._line()} is missing "
                "from the input, or changed); delete it, or use the input of the earlier run"
            )

    @contextmanager
    def continued(self, task: dict[str, Any], resume: bool) -> Iterator[tuple[BinaryIO, resuming.Follow]]:
        """Yield the stream to write to, and a function through which the phrases must pass.

        The file appears when the block has succeeded. Without `resume` it has no earlier groundings.
        """
        keys = (*IDENTITY, *OPTIONS)
        with resuming.go_on(self.path, keys, task, self.complete, resume) as (stream, _, follow):
            yield stream, follow
