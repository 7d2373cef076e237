"""A training run is a folder, and its command may be given again at any time.

config.toml        the settings that were really used
metrics.jsonl      a line a logged step or validation
resume.safetensors weights, optimiser and step: what the same command goes on from
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

RESUME, CONFIG, METRICS = "resume.safetensors", "config.toml", "metrics.jsonl"


@dataclass(frozen=True)
class State:
    """Where a run stands: steps done, the best validation figure so far and the step that gave it."""

    step: int = 0
    best: float | None = None
    best_step: int = 0


class RunFolder:
    """The folder of one run; made by its first command, checked against the settings by the next.

    A run with other settings is refused, or with `anew` forgotten.
    """

    def __init__(self, path: Path, settings: dict[str, Any], anew: bool = False):
        self.anew = anew
        self.path, self.settings = path, {k: v for k, v in settings.items() if v is not None}
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
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()}
        with open(self.path / METRICS, "ab") as stream:
            stream.write(orjson.dumps(rounded, option=orjson.OPT_APPEND_NEWLINE))

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Write resume.safetensors; the one before stands until this one is whole."""
        tensors = {f"model.{name}": each.contiguous() for name, each in network.state_dict().items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": each.contiguous() for name, each in values.items()}
        checkpoints.save(self.path / RESUME, tensors, vars(state))

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Put network and optimiser where `save` left them; State() for a new run.

        Lines of metrics.jsonl past that step are dropped: they are written again.
        """
        if not (self.path / RESUME).exists():
            (self.path / METRICS).unlink(missing_ok=True)
            return State()
        tensors, config = checkpoints.load(self.path / RESUME)
        state = State(**config)
        network.load_state_dict(_under("model.", tensors))
        values: dict[int, dict[str, Tensor]] = {}
        for name, each in _under("optimizer.", tensors).items():
            number, key = name.split(".", 1)
            values.setdefault(int(number), {})[key] = each
        optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
        self._cut_metrics(state.step)
        return state

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
