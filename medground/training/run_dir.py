"""The folder of a training run; the same command resumes it at any time.

config.toml        the settings that were used
metrics.jsonl      one line per logged step or validation
resume.safetensors weights, optimizer and step, from which the same command resumes
losses.png         the losses and validations over the steps, at the end
config.json, model.safetensors, tokenizer.json   the model (models/grounder.py), best so far
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import tomli_w
import torch
from torch import Tensor, nn

from medground import checkpoints, output_files
from medground.errors import MedgroundError
from medground.training import curves

RESUME, CONFIG, METRICS = "resume.safetensors", "config.toml", "metrics.jsonl"
PICTURE = "losses.png"
WAY_OUT = "name another folder or give --overwrite"


@dataclass(frozen=True)
class State:
    """The state of a run: the number of steps done, the best validation figure so far, and its step."""

    step: int = 0
    best: float | None = None
    best_step: int = 0


class RunFolder:
    """The folder of one run: created by the first command, compared with the settings by later ones.

    If the folder has a run with other settings, raise MedgroundError, or with `overwrite` start from scratch.
    With several processes only one `writes`. It creates its RunFolder before the others, which only read.
    """

    def __init__(self, path: Path, settings: dict[str, Any], overwrite: bool = False, writes: bool = True):
        self.overwrite, self.writes = overwrite, writes
        self.path, self.settings = path, {k: v for k, v in settings.items() if v is not None}
        if writes:
            path.mkdir(parents=True, exist_ok=True)
            self._check_settings()

    def _check_settings(self) -> None:
        """Raise MedgroundError if the settings differ from the run's; `overwrite` deletes its state."""
        if not (self.path / RESUME).exists():
            return
        problem = self._other_settings()
        if problem and not self.overwrite:
            raise MedgroundError(f"{self.path}: {problem}; {WAY_OUT}")
        if problem:
            (self.path / RESUME).unlink()

    def _other_settings(self) -> str | None:
        """Return a message about the first difference from the settings of the run in the folder, or None."""
        try:
            text = (self.path / CONFIG).read_text()
            old = dict(_flat(tomllib.loads(text)))
        except FileNotFoundError:
            return f"holds a run without its {CONFIG}"
        except ValueError:  # not TOML, not UTF-8
            return f"its {CONFIG} is damaged"
        new = dict(_flat(tomllib.loads(tomli_w.dumps(self.settings))))
        other = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if not other:
            return None
        was, now = (each.get(other[0], "none") for each in (old, new))
        return f"holds a run with another {other[0]!r} ({was}, not {now})"

    def note_settings(self) -> None:
        """Write config.toml with these settings."""
        if self.writes:
            with output_files.replacing(self.path / CONFIG) as stream:
                stream.write(tomli_w.dumps(self.settings).encode())

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
        """Write resume.safetensors; the previous file is kept until the new one is complete.

        `average` is the moving average of the network's weights.
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
        """Load network, optimizer and average as saved; return the state, or State() for a new run.

        If the file does not fit them, raise MedgroundError, or with `overwrite` start from scratch. Lines of
        metrics.jsonl after the saved step are deleted; they will be written again.
        """
        kept = self._kept(network, optimizer, average)
        if kept is None:
            if self.writes:
                (self.path / METRICS).unlink(missing_ok=True)
            self.note_settings()
            return State()
        tensors, state = kept
        network.load_state_dict(_under("model.", tensors))
        if average is not None:
            average.load_state_dict(_under("average.", tensors))
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _moments(tensors), "param_groups": groups})
        _order_as_weights(optimizer)
        if self.writes:
            self._cut_metrics(state.step)
        self.note_settings()
        return state

    def _kept(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
    ) -> tuple[dict[str, Tensor], State] | None:
        """Return the checked tensors and state of resume.safetensors, or None for a new run."""
        path = self.path / RESUME
        if not path.exists():
            return None
        try:
            tensors, config = checkpoints.load(path)
            checkpoints.check_fit(network, _under("model.", tensors), path)
            if average is not None:
                checkpoints.check_fit(average, _under("average.", tensors), path)
            _check_moments(optimizer, _moments(tensors), path)
            return tensors, _state(config, path)
        except MedgroundError as error:
            if not self.overwrite:
                raise MedgroundError(f"{error}; {WAY_OUT}") from None
            return None

    def draw(self) -> None:
        """Write losses.png, if anything was logged."""
        if self.writes and (self.path / METRICS).exists() and (found := curves.read(self.path / METRICS)):
            with output_files.replacing(self.path / PICTURE) as stream:
                curves.draw(found).save(stream, format="PNG")

    def _cut_metrics(self, step: int) -> None:
        file = self.path / METRICS
        if not file.exists():
            return
        whole = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [line for number, line in enumerate(whole, 1) if _step_of(line, file, number) <= step]
        with output_files.replacing(file) as stream:
            stream.writelines(kept)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _step_of(line: bytes, file: Path, number: int) -> int:
    """Return the step of a line of metrics.jsonl."""
    try:
        return int(orjson.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        raise MedgroundError(f"{file}:{number}: no JSON object with a step; delete the line") from None


def _flat(values: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of all values; the key of a value in a table has its name first: weight.giou."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{under}{key}.")
        else:
            yield under + key, value


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the optimizer's tensors for each parameter, by the number of the parameter."""
    values: dict[int, dict[str, Tensor]] = {}
    for name, each in _under("optimizer.", tensors).items():
        number, key = name.split(".", 1)
        values.setdefault(int(number), {})[key] = each
    return values


def _check_moments(
    optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]], path: Path
) -> None:
    """Raise MedgroundError if the shape of a moment is not its parameter's; step counts are scalars."""
    shapes = dict(enumerate(each.shape for group in optimizer.param_groups for each in group["params"]))
    for number, own in moments.items():
        if any(each.dim() and each.shape != shapes.get(number) for each in own.values()):
            raise MedgroundError(f"{path}: the optimizer state does not fit this model (moment {number})")


def _order_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Store each moment in the memory order of its parameter: a fused optimizer takes them side by side."""
    for parameter, moments in optimizer.state.items():
        for name, each in moments.items():
            if each.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=each.dtype).copy_(each)


def _state(config: dict[str, Any], path: Path) -> State:
    try:
        return State(**config)
    except TypeError:
        raise MedgroundError(f"{path}: does not say at which step it was written") from None
