"""Which engine answers: torch, or what `medground export` made of a model for OpenVINO.

An export is a folder with two graphs and all that a model folder has but its weights: `image` encodes a film
once, `phrases` reads texts and fuses them with it, for any number of texts of any length. The graphs hold
float32 weights and give torch's answers up to rounding; asked for bf16, OpenVINO computes in that, which is
faster where the CPU can (AMX, AVX512-BF16) and moves boxes by a few thousandths of the film.

Letters: S side of the square, N texts, T tokens, P patches, D width, Q boxes.
"""

import importlib.util
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from medground import checkpoints, jsonl
from medground.compat import hide_telemetry
from medground.errors import MedgroundError
from medground.grounding.calibration import FILE as CALIBRATION
from medground.models import encoders, grounder
from medground.models.config import GrounderConfig
from medground.models.grounder import Grounder
from medground.models.network import Network, Predictions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
ABOUT, FORMAT = checkpoints.ENGINE, 1
ORIENTATION = "orientation.safetensors"
GRAPHS = ("image", "phrases")
Ask = Callable[[Tensor, Tensor], Predictions]


@dataclass(frozen=True)
class Exported:
    """A model as two compiled graphs; it stands where a Grounder does."""

    config: GrounderConfig
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    image: Any
    phrases: Any

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """(N, T) ids and (N, T) mask of the texts."""
        return encoders.tokenize(self.tokenizer, texts, self.config.text_tokens)


Model = Grounder | Exported


class Shown(NamedTuple):
    """One film, encoded: (1, P, D) patches, and (1, P) which of them show film."""

    patches: Tensor
    seen: Tensor


def see(model: Model, picture: Tensor) -> Ask:
    """Encode a film's (2, S, S) picture; what comes back answers (N, T) ids and mask of texts on it."""
    return about(model, encode(model, picture))


def encode(model: Model, picture: Tensor) -> Shown:
    """The film of a (2, S, S) picture, encoded."""
    if isinstance(model, Exported):
        return Shown(*(torch.from_numpy(each) for each in model.image([picture[None].numpy()]).values()))
    both = picture[None].to(model.device)
    with _fused_attention():
        images = model.network.encode_images(both[:, :1], both[:, 1:])
    return Shown(images.patches, images.visible)


def about(model: Model, shown: Shown) -> Ask:
    """What answers (N, T) ids and mask of texts on an encoded film."""
    patches, seen = _on_film(*shown)
    if isinstance(model, Exported):
        return _about_exported(model, patches.numpy(), seen.numpy())
    device, network = model.device, model.network

    def ask(ids: Tensor, mask: Tensor) -> Predictions:
        with _fused_attention():
            return _about_one(network, patches, seen, ids.to(device), mask.to(device), _few(device))

    return ask


def _on_film(patches: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Those of (1, P, D) patches and (1, P) seen that show film: nothing ever looks at the others."""
    return patches[:, seen[0]], seen[:, seen[0]]


def _few(device: torch.device) -> int:
    """How many texts to fuse at once: on a CPU so few that what is between two layers stays in its caches."""
    return 4 if device.type == "cpu" else 256


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Without torch's "fast path" of encoder layers, whose attention on a CPU is the slower one: with padding
    it writes all weights out. Measured on the published shape, fusion takes a quarter less without it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _about_one(
    network: Network, patches: Tensor, seen: Tensor, ids: Tensor, mask: Tensor, few: int
) -> Predictions:
    """Predictions for (N, T) texts about one film, `few` at a time: (1, P, D) patches, (1, P) seen."""
    tokens = network.encode_texts(ids, mask)
    parts = [
        _fused(network, patches, seen, *both) for both in zip(tokens.split(few), mask.split(few), strict=True)
    ]
    each = zip(*((part.boxes, part.scores, part.present) for part in parts), strict=True)
    return Predictions(*(torch.cat(some) for some in each))


def _fused(network: Network, patches: Tensor, seen: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
    count = tokens.shape[0]
    return network.fuse(patches.expand(count, -1, -1), seen.expand(count, -1), tokens, mask)


def _about_exported(model: Exported, patches: Any, seen: Any) -> Ask:
    def ask(ids: Tensor, mask: Tensor) -> Predictions:
        found = model.phrases([patches, seen, ids.numpy(), mask.numpy()])
        return Predictions(*(torch.from_numpy(each.copy()) for each in found.values()))

    return ask


class _Image(nn.Module):
    """What becomes the graph `image`: (1, 2, S, S) -> (1, P, D) patches and (1, P) seen."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        images = self.network.encode_images(picture[:, :1], picture[:, 1:])
        return images.patches, images.visible


class _Phrases(nn.Module):
    """What becomes the graph `phrases`: patches, seen, ids and mask -> boxes, scores and present."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, seen: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        said = _fused(self.network, patches, seen, self.network.encode_texts(ids, mask), mask)
        return said.boxes, said.scores, said.present


@torch.inference_mode()
def export(model: Grounder, source: Path, folder: Path) -> None:
    """Write the model of the folder `source` as an export; it is whole once engine.json is there.

    All is written beside and moved: an earlier export stands until this one is whole.
    """
    ov = _openvino()
    graphs = _graphs(model)
    folder.mkdir(parents=True, exist_ok=True)
    beside_folder = tempfile.TemporaryDirectory(dir=folder, prefix="export.partial.")
    with jsonl.naming(str(folder)), beside_folder as made:
        beside = Path(made)
        for name in GRAPHS:
            _save_graph(graphs[name], beside / f"{name}.xml")
        grounder.save_tokenizer(model.tokenizer, beside)
        grounder.write_json(beside / grounder.CONFIG, model.config.to_json())
        for name in (CALIBRATION, ORIENTATION):
            if (source / name).is_file():
                shutil.copyfile(source / name, beside / name)
        about = {"format": FORMAT, "model": model.name, "openvino": ov.__version__}
        about["record"] = checkpoints.record_of(source)
        grounder.write_json(beside / ABOUT, about)
        (folder / ABOUT).unlink(missing_ok=True)
        for path in sorted(beside.iterdir(), key=lambda each: (each.name == ABOUT, each.name)):
            os.replace(path, folder / path.name)


def _save_graph(graph: Any, path: Path) -> None:
    """Write PATH and the weights beside it; raises OSError where the system does not take them."""
    try:
        _openvino().save_model(graph, str(path), compress_to_fp16=False)
    except RuntimeError:
        path.write_bytes(bytes(1 << 20))  # OpenVINO says no more than "iostream error": ask the system why
        raise


def _graphs(model: Grounder) -> dict[str, Any]:
    """The graphs as OpenVINO's models, traced on a small example; any number of patches, texts and tokens."""
    ov, size = _openvino(), model.config.image_size
    image, phrases = _Image(model.network), _Phrases(model.network)
    picture = torch.ones(1, 2, size, size)
    ids, mask = model.tokenize(["small left effusion", "enlarged heart and an opacity in the right lung"])
    with _fused_attention():  # torch's fast path has no counterpart in a graph
        patches, seen = image(picture)
        shapes = [[1, -1, patches.shape[2]], [1, -1], [-1, -1], [-1, -1]]
        return {
            "image": _converted(ov, image, (picture,), [list(picture.shape)]),
            "phrases": _converted(ov, phrases, (patches, seen, ids, mask), shapes),
        }


def _converted(ov: Any, module: nn.Module, example: tuple[Tensor, ...], shapes: list[list[int]]) -> Any:
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # tracing looks at attributes that transformers warns of
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing names every Python number that it meets
            return ov.convert_model(module.eval(), example_input=example, input=shapes)
    finally:
        transformers_logging.set_verbosity(before)


def _openvino() -> Any:
    hide_telemetry()
    try:
        import openvino
    except ModuleNotFoundError:
        raise MedgroundError("exports need OpenVINO: pip install medground[export]") from None
    return openvino


def load(folder: Path, device: str = "cpu", engine: str = "auto") -> Model:
    """The model of a folder, by the engine: auto, torch, exported or bf16.

    auto takes the export where the folder holds one and the device is the CPU. An export that was made of
    other weights than those beside it is refused.
    """
    exported = (folder / ABOUT).is_file()
    weights = (folder / grounder.WEIGHTS).is_file()
    usable = exported and device == "cpu" and importlib.util.find_spec("openvino") is not None
    if engine == "torch" or (engine == "auto" and not usable and (weights or not exported)):
        return grounder.load(folder, device)
    if not exported:
        raise MedgroundError(f"{folder}: no {ABOUT}; medground export makes one")
    if device != "cpu":
        log.warning("%s: an export runs on the CPU", folder)
    return _load(folder, "bf16" if engine == "bf16" else "f32")


def _load(folder: Path, precision: str) -> Exported:
    ov = _openvino()
    about = _read(folder / ABOUT)
    if about.get("format") != FORMAT:
        raise MedgroundError(f"{folder / ABOUT}: written by another version; run medground export again")
    if (folder / grounder.WEIGHTS).is_file() and grounder.name_of(folder) != about["model"]:
        raise MedgroundError(
            f"{folder / ABOUT}: made of other weights than these; run medground export again"
        )
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    graphs = {name: core.compile_model(str(folder / f"{name}.xml"), "CPU", how) for name in GRAPHS}
    config = GrounderConfig.from_json(_read(folder / grounder.CONFIG))
    return Exported(config, grounder.load_tokenizer(folder), about["model"], **graphs)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise MedgroundError(f"{path}: not JSON; run medground export again") from None
