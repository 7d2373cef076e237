"""A training run is a folder, and its command may be given again at any time.

config.toml        the settings that were really used
metrics.jsonl      a line a logged step or validation
resume.safetensors weights, optimiser and step: what the same command goes on from
losses.png         the losses and validations over the steps, at the end
config.json, model.safetensors, tokenizer.json   the model (models/grounder.py), best so far
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import tomli_w
import torch
from torch import Tensor, nn

from medground import checkpoints
from medground.errors import MedgroundError
from medground.training import curves

RESUME, CONFIG, METRICS = "resume.safetensors", "config.toml", "metrics.jsonl"
PICTURE = "losses.png"


@dataclass(frozen=True)
class State:
    """Where a run stands: steps done, the best validation figure so far and the step that gave it."""

    step: int = 0
    best: float | None = None
    best_step: int = 0


class RunFolder:
    """The folder of one run; made by its first command, checked against the settings by the next.

    A run with other settings is refused, or with `anew` forgotten. Of several processes one `writes`, and
    makes its RunFolder before the others do; these only read.
    """

    def __init__(self, path: Path, settings: dict[str, Any], anew: bool = False, writes: bool = True):
        self.anew, self.writes = anew, writes
        self.path, self.settings = path, {k: v for k, v in settings.items() if v is not None}
        if writes:
            path.mkdir(parents=True, exist_ok=True)
            self._check_settings()

    def _check_settings(self) -> None:
        """Refuse to go on with other settings than the run began with, or forget that run."""
        file = self.path / CONFIG
        new = tomli_w.dumps(self.settings)
        if file.exists() and (self.path / RESUME).exists():
            old = dict(line.split(" = ", 1) for line in file.read_text().splitlines() if " = " in line)
            now = dict(line.split(" = ", 1) for line in new.splitlines() if " = " in line)
            other = sorted(key for key in old.keys() | now.keys() if old.get(key) != now.get(key))
            if other and not self.anew:
                raise MedgroundError(
                    f"{self.path}: holds a run with another {other[0]!r}; name another folder or give --anew"
                )
            if other:
                (self.path / RESUME).unlink()
        partial = self.path / f"{CONFIG}.partial"
        partial.write_text(new)
        os.replace(partial, file)

    def log(self, **line: Any) -> None:
        """Append one line to metrics.jsonl."""
        if not self.writes:
            return
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()}
        with open(self.path / METRICS, "ab") as stream:
            stream.write(orjson.dumps(rounded, option=orjson.OPT_APPEND_NEWLINE))

    def save(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: State,
        average: nn.Module | None = None,
    ) -> None:
        """Write resume.safetensors; the one before stands until this one is whole.

        `average` is a running mean of weights that the run keeps beside the network.
        """
        tensors = {f"model.{name}": each.contiguous() for name, each in network.state_dict().items()}
        if average is not None:
            tensors |= {f"average.{name}": each.contiguous() for name, each in average.state_dict().items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": each.contiguous() for name, each in values.items()}
        checkpoints.save(self.path / RESUME, tensors, vars(state))

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
    ) -> State:
        """Put network, optimiser and average where `save` left them; State() for a new run.

        Lines of metrics.jsonl past that step are dropped: they are written again.
        """
        if not (self.path / RESUME).exists():
            if self.writes:
                (self.path / METRICS).unlink(missing_ok=True)
            return State()
        tensors, config = checkpoints.load(self.path / RESUME)
        checkpoints.fit(network, _under("model.", tensors), self.path / RESUME)
        if average is not None:
            checkpoints.fit(average, _under("average.", tensors), self.path / RESUME)
        values: dict[int, dict[str, Tensor]] = {}
        for name, each in _under("optimizer.", tensors).items():
            number, key = name.split(".", 1)
            values.setdefault(int(number), {})[key] = each
        optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
        state = State(**config)
        if self.writes:
            self._cut_metrics(state.step)
        return state

    def draw(self) -> None:
        """Write losses.png; nothing where nothing was logged."""
        if self.writes and (self.path / METRICS).exists() and (found := curves.read(self.path / METRICS)):
            partial = self.path / f"{PICTURE}.partial"
            curves.draw(found).save(partial, format="PNG")
            os.replace(partial, self.path / PICTURE)

    def _cut_metrics(self, step: int) -> None:
        file = self.path / METRICS
        if not file.exists():
            return
        whole = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [line for line in whole if orjson.loads(line)["step"] <= step]
        partial = self.path / f"{METRICS}.partial"
        partial.write_bytes(b"".join(kept))
        os.replace(partial, file)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
