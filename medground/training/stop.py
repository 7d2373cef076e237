"""Stop requests: SIGUSR1 or SIGTERM from SLURM or a person. The loop checks for one after each step."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class StopRequest:
    """A context that is True once the process has received a signal to end.

    The previous handlers are restored at the end. `then` is called on each signal, and may raise.
    """

    def __init__(self, *signals: int, then: Callable[[], None] = lambda: None):
        self.requested, self._then = False, then
        self._numbers = signals or (signal.SIGTERM, signal.SIGUSR1)
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._ask) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._then()

    def __bool__(self) -> bool:
        return self.requested
