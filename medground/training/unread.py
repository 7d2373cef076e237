"""Losses and gradient norms of training steps that are still on the device."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from medground.errors import MedgroundError


class Unread:
    """Losses and gradient norms of the steps since the last log line or checkpoint.

    To read a number waits for the device, so it is not done after every step. A number that is not finite is
    found before anything is logged or saved. scaled: a scaler skips steps without a finite gradient.
    """

    def __init__(self, scaled: bool):
        self._scaled = scaled
        self._steps: list[tuple[int, dict[str, Tensor]]] = []

    def append(self, step: int, figures: dict[str, Tensor]) -> None:
        """Add the figures of a step: "loss", its parts and "grad_norm", each a scalar."""
        self._steps.append((step, figures))

    def read(self) -> dict[str, float]:
        """Return the figures of the last step; raise MedgroundError for the first that is not finite."""
        if not self._steps:
            return {}
        table = torch.stack([torch.stack(list(each.values())) for _, each in self._steps]).tolist()
        steps, self._steps = self._steps, []
        for (step, names), values in zip(steps, table, strict=True):
            found = dict(zip(names, values, strict=True))
            if not math.isfinite(found["loss"]):
                raise MedgroundError(_not_finite(step, "loss", found["loss"]))
            if not self._scaled and not math.isfinite(found["grad_norm"]):
                raise MedgroundError(_not_finite(step, "gradient", found["grad_norm"]))
        return found

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise the error of an earlier step if scipy refuses the numbers of this one."""
        try:
            yield
        except ValueError:
            self.read()
            raise


def _not_finite(step: int, what: str, value: float) -> str:
    return f"step {step + 1}: the {what} became {value:g}; the last checkpoint was kept"
