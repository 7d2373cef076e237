"""Backends of prediction: torch, or an OpenVINO export written by `medground export`.

An export is a folder with two graphs and all files of a model folder except its weights. `image` encodes an
image once. `phrases` encodes texts and fuses them with it, for any number of texts of any length. The graphs
hold float32 weights and reproduce torch's outputs up to rounding. The backend bf16 computes in bfloat16. It
is faster on CPUs with AMX or AVX512-BF16, and moves boxes by a few thousandths of the image.

Letters: S side of the square, N texts, T tokens, P patches, D width, Q boxes.
"""

import importlib.util
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

from medground import checkpoints, leakage, locks, model_dir, output_files
from medground.compat import hide_telemetry
from medground.errors import MedgroundError
from medground.model_dir import ModelDir
from medground.models import encoders, grounder
from medground.models.config import GrounderConfig
from medground.models.grounder import Grounder
from medground.models.network import Network, Predictions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
FORMAT = 1
GRAPHS = ("image", "phrases")
Query = Callable[[Tensor, Tensor], Predictions]


@dataclass(frozen=True)
class Exported:
    """A model as two compiled graphs; it can be used in place of a Grounder."""

    config: GrounderConfig
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    image: Any
    phrases: Any

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return (N, T) ids and (N, T) mask of the texts."""
        return encoders.tokenize(self.tokenizer, texts, self.config.text_tokens)


Model = Grounder | Exported


class EncodedImage(NamedTuple):
    """One encoded image: (1, P, D) patches, and (1, P) True for patches of image, not padding."""

    patches: Tensor
    visible: Tensor


def query_image(model: Model, picture: Tensor) -> Query:
    """Encode a (2, S, S) picture; return the function from (N, T) ids and mask of texts to outputs."""
    return query_encoded(model, encode(model, picture))


def encode(model: Model, picture: Tensor) -> EncodedImage:
    """Return a (2, S, S) picture, encoded."""
    if isinstance(model, Exported):
        return EncodedImage(
            *(torch.from_numpy(each) for each in model.image([picture[None].numpy()]).values())
        )
    both = picture[None].to(model.device)
    with _fused_attention():
        images = model.network.encode_images(both[:, :1], both[:, 1:])
    return EncodedImage(images.patches, images.visible)


def query_encoded(model: Model, image: EncodedImage) -> Query:
    """Return the function from (N, T) ids and mask of texts to the outputs on an encoded image."""
    # positions of the published networks are those of patches in the whole square
    patches, visible = image if model.config.norm == "post" else _without_padding(*image)
    if isinstance(model, Exported):
        return _query_exported(model, patches.numpy(), visible.numpy())
    device, network = model.device, model.network

    def query(ids: Tensor, mask: Tensor) -> Predictions:
        with _fused_attention():
            return _outputs(
                network, patches, visible, ids.to(device), mask.to(device), _texts_at_once(device)
            )

    return query


def _without_padding(patches: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Return those of (1, P, D) patches and (1, P) visible that are not padding, which is always masked."""
    return patches[:, visible[0]], visible[:, visible[0]]


def _texts_at_once(device: torch.device) -> int:
    """Return the number of texts to fuse at once: on a CPU few, so that activations stay in its caches."""
    return 4 if device.type == "cpu" else 256


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Disable torch's "fast path" of encoder layers inside the block.

    With padding, the fast path materializes all attention weights, which is slower on a CPU. Fusion of the
    published shape takes a quarter less time without it (measured).
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _outputs(
    network: Network, patches: Tensor, visible: Tensor, ids: Tensor, mask: Tensor, at_once: int
) -> Predictions:
    """Return outputs for (N, T) texts on one image, `at_once` at a time; see EncodedImage."""
    tokens = network.encode_texts(ids, mask)
    chunks = zip(tokens.split(at_once), mask.split(at_once), strict=True)
    parts = [_fused(network, patches, visible, *chunk) for chunk in chunks]
    each = zip(*((part.boxes, part.scores, part.present) for part in parts), strict=True)
    return Predictions.of(torch.cat(some) for some in each)


def _fused(network: Network, patches: Tensor, visible: Tensor, tokens: Tensor, mask: Tensor) -> Predictions:
    count = tokens.shape[0]
    return network.fuse(patches.expand(count, -1, -1), visible.expand(count, -1), tokens, mask)


def _query_exported(model: Exported, patches: Any, visible: Any) -> Query:
    def query(ids: Tensor, mask: Tensor) -> Predictions:
        found = model.phrases([patches, visible, ids.numpy(), mask.numpy()])
        return Predictions.of(torch.from_numpy(each.copy()) for each in found.values())

    return query


class _Image(nn.Module):
    """The module of the graph `image`: (1, 2, S, S) -> (1, P, D) patches and (1, P) visible."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        images = self.network.encode_images(picture[:, :1], picture[:, 1:])
        return images.patches, images.visible


class _Phrases(nn.Module):
    """The module of the graph `phrases`: patches, visible, ids and mask -> boxes, scores and present."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, visible: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        output = _fused(self.network, patches, visible, self.network.encode_texts(ids, mask), mask)
        return output.boxes, output.scores, output.present


@torch.inference_mode()
def export(model: Grounder, source: Path, folder: Path, public: bool = False) -> None:
    """Write the model of the folder `source` as an export, which is complete once engine.json is there.

    The files are written to a temporary folder and moved, so an earlier export is kept until then. `public`
    leaves out the training record. Raises MedgroundError if the folder then holds other files.
    """
    record = ModelDir(source).training_record() or {}
    if public:
        _check_public(model, folder)
        record = leakage.public_part(record)
    ov = _openvino()
    graphs = _graphs(model)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(dir=folder, prefix="export.partial.")
    with output_files.naming(str(folder)), temporary as made:
        partial = Path(made)
        for name in GRAPHS:
            _save_graph(graphs[name], partial / f"{name}.xml")
        grounder.save_tokenizer(model.tokenizer, partial)
        grounder.write_json(partial / model_dir.CONFIG, model.config.to_json())
        for path in partial.iterdir():  # the weights of `source` hold the hashes of its own files
            if (source / path.name).is_file() and path.suffix not in (".xml", ".bin"):
                shutil.copyfile(source / path.name, path)
        files = ModelDir(partial).hashes(each.name for each in partial.iterdir())
        for name in (model_dir.CALIBRATION, model_dir.FLIP_CORRECTION):
            if (source / name).is_file():
                shutil.copyfile(source / name, partial / name)
        facts = {"format": FORMAT, "model": model.name, "openvino": ov.__version__}
        facts["record"] = record
        facts[model_dir.FILES] = files
        facts[model_dir.DIGEST] = checkpoints.digest_of(facts)
        grounder.write_json(partial / model_dir.EXPORT, facts)
        (folder / model_dir.EXPORT).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda each: (each.name == model_dir.EXPORT, each.name)):
            os.replace(path, folder / path.name)


def _check_public(model: Grounder, folder: Path) -> None:
    """Raise MedgroundError for a folder with files of a run; warn of a vocabulary of an earlier version."""
    if folder.is_dir() and any(each.name != locks.OF_FOLDER for each in folder.iterdir()):
        raise MedgroundError(f"{folder}: not empty; give --public a new folder, which is safe to publish")
    if encoders.holds_numbers(model.tokenizer):
        log.warning(
            "the vocabulary holds whole numbers, so it may hold each word of the training texts: train the "
            "model again before you publish it"
        )


def _save_graph(graph: Any, path: Path) -> None:
    """Write PATH and the weights next to it; raises OSError if the system refuses them."""
    try:
        _openvino().save_model(graph, str(path), compress_to_fp16=False)
    except RuntimeError:
        path.write_bytes(bytes(1 << 20))  # OpenVINO reports only "iostream error"; this raises the reason
        raise


def _graphs(model: Grounder) -> dict[str, Any]:
    """Return the graphs, traced on a small example, for any number of patches, texts and tokens."""
    ov, size = _openvino(), model.config.image_size
    image, phrases = _Image(model.network), _Phrases(model.network)
    picture = torch.ones(1, 2, size, size)
    ids, mask = model.tokenize(["small left effusion", "enlarged heart and an opacity in the right lung"])
    with _fused_attention():  # torch's fast path has no counterpart in a graph
        patches, visible = image(picture)
        shapes = [[1, -1, patches.shape[2]], [1, -1], [-1, -1], [-1, -1]]
        return {
            "image": _converted(ov, image, (picture,), [list(picture.shape)]),
            "phrases": _converted(ov, phrases, (patches, visible, ids, mask), shapes),
        }


def _converted(ov: Any, module: nn.Module, example: tuple[Tensor, ...], shapes: list[list[int]]) -> Any:
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # tracing reads attributes that transformers warns about
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns about every Python number
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


def load(folder: Path, device: str = "cpu", backend: str = "auto") -> Model:
    """Return the model of a folder with the backend auto, torch, exported or bf16.

    auto uses the export if the folder holds one and the device is the CPU. Raises MedgroundError if the
    export was made from other weights than those in the folder.
    """
    files = ModelDir(folder)
    usable = files.has_export and device == "cpu" and importlib.util.find_spec("openvino") is not None
    if backend == "torch" or (
        backend == "auto" and not usable and (files.has_weights or not files.has_export)
    ):
        return grounder.load(folder, device)
    if device != "cpu":
        log.warning("%s: an export runs on the CPU", folder)
    return _load(files, "bf16" if backend == "bf16" else "f32")


def _load(files: ModelDir, precision: str) -> Exported:
    facts, path = files.export(), files.path / model_dir.EXPORT
    ov = _openvino()
    if facts.get("format") != FORMAT:
        raise MedgroundError(f"{path}: written by another version; run medground export again")
    if files.has_weights and files.name != facts["model"]:
        raise MedgroundError(f"{path}: made from other weights than these; run medground export again")
    files.refuse_changed(facts, "run medground export again")
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    try:
        graphs = {name: core.compile_model(str(files.path / f"{name}.xml"), "CPU", how) for name in GRAPHS}
    except RuntimeError as error:  # of OpenVINO: damaged, or not there
        raise MedgroundError(f"{files.path}: its graphs are damaged; run medground export again") from error
    config = GrounderConfig.from_json(files.config())
    return Exported(config, grounder.load_tokenizer(files.path), facts["model"], **graphs)
