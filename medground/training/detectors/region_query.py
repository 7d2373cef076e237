"""Training the region-query detector: films with region boxes -> RUN_DIR/model.safetensors.

The views and the order of step n follow from the seed and n alone, so a run that was stopped and started
again ends, on a CPU, with exactly the weights of one that was not. What is kept is a running mean of the
weights: at the end of a short training it is better than the last ones.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from medground import boxes as geometry
from medground import checkpoints, console
from medground.anatomy import augment, region_query, yolo
from medground.anatomy.image_set import ImageSet
from medground.anatomy.region_query import Config, RegionQuery
from medground.errors import MedgroundError
from medground.training.run_dir import RunFolder
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)

MODEL, PICTURE = "model.safetensors", "validation.png"
WEIGHTS = {"corners": 12.0, "overlap": 2.0, "presence": 1.0}
STEPS = 1200
NEVER = -30.0  # presence logit of a region that no film has
CLIP_NORM, WEIGHT_DECAY, BETAS = 1.0, 0.05, (0.9, 0.98)
LOG_EVERY, TOGETHER = 20, 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a detector is trained; `average` is how many last steps the mean of the weights looks back on."""

    steps: int = STEPS
    batch: int = 8
    rate: float = 1.5e-3
    warmup: float = 0.05
    average: int = 100
    save_every: int = 200
    seed: int = 0
    device: str = "cpu"
    ranges: augment.Ranges = field(default_factory=augment.Ranges)

    def rate_at(self, step: int) -> float:
        """The learning rate: it rises over the first `warmup` share, then falls as a half cosine."""
        rise = max(1, round(self.steps * self.warmup))
        if step < rise:
            return self.rate * (step + 1) / rise
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


class Learner(nn.Module):
    """The network that learns and, beside it, the running mean of its weights."""

    def __init__(self, config: Config, start: Path | None = None):
        super().__init__()
        self.now, self.mean = RegionQuery(config), RegionQuery(config)
        if start:
            weights, header = checkpoints.load(start)
            if region_query.build_config(header, str(start)) != config:
                raise MedgroundError(f"{start}: a detector of another size, or of other regions")
            checkpoints.fit(self.now, weights, start)
        self.mean.load_state_dict(self.now.state_dict())
        self.mean.requires_grad_(False)

    @torch.no_grad()
    def average(self, step: int, steps: int) -> None:
        """Move the mean towards the present weights; early on it follows closely."""
        keep = min(1 - 1 / steps, (1 + step) / (10 + step))
        for mean, now in zip(self.mean.parameters(), self.now.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for kept, seen in zip(self.mean.buffers(), self.now.buffers(), strict=True):
            kept.copy_(seen)  # batch norm's own running means


def train(
    learned: ImageSet,
    checked: ImageSet | None,
    config: Config,
    folder: Path,
    options: Options,
    overwrite: bool = False,
    start: Path | None = None,
) -> bool:
    """Train on the films and leave the detector in `folder`; True when done, False when stopped after saving.

    The same call again goes on where a stopped one ended. `checked` are films to measure on;
    `overwrite` forgets a run with other settings; `start` is a detector of the same config to begin with.
    """
    settings = _settings(learned, checked, config, options)
    if start:
        settings["start"] = checkpoints.hash_of(start)
    run = RunFolder(folder, settings, overwrite)
    with StopRequest() as stop, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        learner = Learner(config, start).to(options.device)
        to_learn = start_from_prior(learner, learned)
        done = _steps(learner, to_learn, checked, run, options, stop)
    if done == options.steps:
        _finish(learner.mean, checked or learned, folder)
    else:
        log.warning("asked to stop: saved step %d of %d", done, options.steps)
    return done == options.steps


def train_yolo(
    learned: ImageSet, checked: ImageSet | None, folder: Path, options: yolo.Options, overwrite: bool = False
) -> bool:
    """As `train`, with ultralytics' detector; a stopped run goes on after its last whole epoch."""
    settings = {**vars(options), "films": learned.digest(), "detector": "yolo"}
    run = RunFolder(folder, {name: each for name, each in settings.items() if name != "device"}, overwrite)
    run.note_settings()
    with StopRequest() as stop:
        done = yolo.train(learned, checked, folder, options, lambda line: run.log(**line), lambda: bool(stop))
    if not done:
        log.warning("asked to stop: the last whole epoch is saved")
    return done


def start_from_prior(learner: Learner, films: ImageSet) -> ImageSet:
    """Let every query begin with how often its region is there in the films; returns what is left to learn.

    A region that is on no film is never found, and whether it is there is not asked.
    """
    share = (films.present == 1).mean(axis=0)
    seen = np.clip(share, 0.01, 0.99)
    logits = np.where(share > 0, np.log(seen / (1 - seen)), NEVER)
    for network in (learner.now, learner.mean):
        network.presence_prior.copy_(torch.from_numpy(logits))
    return replace(films, present=np.where(share > 0, films.present, -1).astype(np.int8))


def _steps(
    learner: Learner,
    learned: ImageSet,
    checked: ImageSet | None,
    run: RunFolder,
    options: Options,
    stop: StopRequest,
) -> int:
    """Step until the end or until asked to stop; the number of steps done, saved."""
    optimizer = torch.optim.AdamW(
        learner.now.parameters(), lr=options.rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    state = run.restore(learner, optimizer)
    remaining = range(state.step, options.steps)
    for step in console.progress(remaining, run.path.name, options.steps, start=state.step):
        figures = _step(learner, optimizer, batch_at(learned, step, options), options, step)
        state = replace(state, step=step + 1)
        ends = state.step == options.steps
        if state.step % LOG_EVERY == 0 or ends:
            run.log(step=state.step, **figures)
        if checked is not None and (state.step % options.save_every == 0 or ends):
            run.log(step=state.step, validation=mean_iou(learner.mean, checked))
        asked = bool(stop)  # read once: a signal between two looks would end the run without a save
        if state.step % options.save_every == 0 or ends or asked:
            run.save(learner, optimizer, state)
        if asked:
            break
    return state.step


def _step(
    learner: Learner, optimizer: torch.optim.Optimizer, given: augment.Views, options: Options, step: int
) -> dict[str, float]:
    """One step of gradient descent; the losses and the rate as numbers."""
    rate = options.rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    on = {name: getattr(given, name).to(options.device) for name in ("boxes", "known", "present")}
    with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=half_is_fast(options.device)):
        found, logits = learner.now(given.images.to(options.device))
    parts = region_query.loss_parts(found, logits, on["boxes"], on["known"], on["present"])
    loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    if not loss.isfinite():
        raise MedgroundError(f"step {step + 1}: the loss became {loss.item()}; the last checkpoint stands")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(learner.now.parameters(), CLIP_NORM)
    optimizer.step()
    learner.average(step, options.average)
    return {"loss": loss.item(), "rate": rate} | {name: part.item() for name, part in parts.items()}


def half_is_fast(device: str) -> bool:
    """Whether bfloat16 pays on this device: on GPUs, and on processors that multiply it in tiles."""
    if not device.startswith("cpu"):
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


def batch_at(films: ImageSet, step: int, options: Options) -> augment.Views:
    """The views of step number `step`: epochs follow one another, each in an order of its own."""
    count = len(films)
    places = range(step * options.batch, (step + 1) * options.batch)
    orders = {epoch: _order(count, options.seed, epoch) for epoch in {place // count for place in places}}
    rows = [orders[place // count][place % count] for place in places]
    generator = Generator().manual_seed(int(np.random.default_rng([options.seed, 1, step]).integers(2**62)))
    return augment.views(as_views(films, rows), options.ranges, generator)


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def as_views(films: ImageSet, rows: Sequence[int] | NDArray[np.int64] | slice) -> augment.Views:
    """The films of these rows, untouched, as tensors."""
    present = torch.from_numpy(films.present[rows])
    return augment.Views(
        torch.from_numpy(films.squares[rows])[:, None].float() / 255,
        torch.from_numpy(films.boxes[rows]),
        (present == 1).float(),
        present.float(),
    )


@torch.no_grad()
def predict(network: RegionQuery, films: ImageSet) -> tuple[Tensor, Tensor]:
    """(N, Q, 4) boxes and (N, Q) presence of all films, on the CPU."""
    device = next(network.parameters()).device
    network.eval()
    parts = []
    for first in range(0, len(films), TOGETHER):
        given = as_views(films, slice(first, first + TOGETHER))
        boxes, logits = network(given.images.to(device))
        parts.append((boxes.cpu(), logits.float().sigmoid().cpu()))
    return torch.cat([boxes for boxes, _ in parts]), torch.cat([score for _, score in parts])


def mean_iou(network: RegionQuery, films: ImageSet) -> float:
    """Mean overlap of found and true boxes over all regions of all films that have one."""
    found, _ = predict(network, films)
    known = films.present == 1
    overlap = geometry.paired_iou(found.numpy()[known].astype(float), films.boxes[known].astype(float))
    return float(overlap.mean()) if len(overlap) else 0.0


def _finish(network: RegionQuery, films: ImageSet, folder: Path) -> None:
    """Write the detector, and a picture of its boxes on the first films."""
    from medground.anatomy.picture import draw_regions

    checkpoints.save(folder / MODEL, network.state_dict(), region_query.to_json(network.config))
    some = replace(films, **{name: each[:8] for name, each in vars(films).items()})
    found, scores = predict(network, some)
    sheet = draw_regions(some, found.numpy(), scores.numpy())
    sheet.save(folder / PICTURE)


def _settings(
    learned: ImageSet, checked: ImageSet | None, config: Config, options: Options
) -> dict[str, object]:
    """What makes two runs the same run; the device does not."""
    chosen = {name: each for name, each in asdict(options).items() if name != "device"}
    return chosen | {
        "network": {name: each for name, each in asdict(config).items() if name != "names"},
        "films": learned.digest(),
        "validation": checked.digest() if checked else "none",
    }
