"""Write an export: a folder with two OpenVINO graphs and all files of a model folder except its weights.

`engine` describes the graphs and loads them. They hold the weights without loss: those that half precision
holds exactly, such as those of the example model, take two bytes. The backend bf16 computes in bfloat16. It
is faster on CPUs with AMX only, and moves boxes by a few thousandths of the image.

Letters: S side of the square, N texts, T tokens, P patches, D width.
"""

import logging
import math
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medground import checkpoints, leakage, locks, model_dir, output_files
from medground.errors import MedgroundError
from medground.grounding import engine, torch_backend
from medground.model_dir import ModelDir
from medground.models import encoders, grounder
from medground.models.graphs import CONSTANT, openvino
from medground.models.grounder import Grounder
from medground.models.network import Network
from medground.models.tokens import SavedTokenizer

log = logging.getLogger(__name__)
LARGE = 1024  # numbers in a constant that is worth halving
TEXTS = [
    "small left effusion",
    "enlarged heart and an opacity in the right lung " * 20,
    "3.5 cm (naïve): R/O",
]


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
        output = torch_backend.fused(
            self.network, patches, visible, self.network.encode_texts(ids, mask), mask
        )
        return output.boxes, output.scores, output.present


@torch.inference_mode()
def export(model: Grounder, source: Path, folder: Path, public: bool = False, shared: bool = False) -> None:
    """Write the model of the folder `source` as an export, which is complete once engine.json is there.

    The files are written to a temporary folder and moved, so an earlier export is kept until then. `public`
    leaves out the training record. `shared` leaves out the weights that `source` holds, so the export works
    only in that folder, which gets half as large. Raises MedgroundError if the folder then holds other files.
    """
    record = ModelDir(source).training_record() or {}
    if public:
        _check_public(model, folder)
        record = leakage.public_part(record)
    ov = openvino()
    graphs = _graphs(model)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(dir=folder, prefix="export.partial.")
    with output_files.naming(str(folder)), temporary as made:
        partial = Path(made)
        for name in engine.GRAPHS:
            save_graph(graphs[name], partial / f"{name}.xml")
            if shared:
                share(partial / f"{name}.xml", ModelDir(source).weights.read_bytes())
        grounder.save_tokenizer(model.tokenizer, partial)
        grounder.write_json(partial / model_dir.CONFIG, model.config.to_json())
        for path in partial.iterdir():  # the weights of `source` hold the hashes of its own files
            if (source / path.name).is_file() and path.suffix not in (".xml", ".bin"):
                shutil.copyfile(source / path.name, path)
        files = ModelDir(partial).hashes(each.name for each in partial.iterdir())
        for name in (model_dir.CALIBRATION, model_dir.FLIP_CORRECTION):
            if (source / name).is_file():
                shutil.copyfile(source / name, partial / name)
        facts = {"format": engine.FORMAT, "model": model.name, "openvino": ov.__version__}
        facts |= {"record": record, "pad": _pad_of(model, partial)}
        facts |= {engine.SHARES: model_dir.WEIGHTS} if shared else {}
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


def save_graph(graph: Any, path: Path) -> None:
    """Write PATH and the weights next to it; raises OSError if the system refuses them."""
    try:
        openvino().save_model(graph, str(path), compress_to_fp16=False)
    except RuntimeError:
        path.write_bytes(bytes(1 << 20))  # OpenVINO reports only "iostream error"; this raises the reason
        raise


def share(path: Path, weights: bytes) -> None:
    """Leave out of a graph's weights what `weights` has; those then come first (see `graphs.compiled`)."""
    held, kept = path.with_suffix(".bin").read_bytes(), bytearray()

    def moved(found: re.Match[bytes]) -> bytes:
        offset, size = int(found[1]), int(found[2])
        constant = held[offset : offset + size]
        place = weights.find(constant) if size > LARGE else -1
        if place < 0:
            place = len(weights) + len(kept)
            kept.extend(constant)
        return b'offset="%d" size="%d"' % (place, size)

    path.write_bytes(CONSTANT.sub(moved, path.read_bytes()))
    path.with_suffix(".bin").write_bytes(kept)


def _graphs(model: Grounder) -> dict[str, Any]:
    """Return the graphs, traced on a small example, for any number of patches, texts and tokens."""
    ov, size = openvino(), model.config.image_size
    image, phrases = _Image(model.network), _Phrases(model.network)
    picture = torch.ones(1, 2, size, size)
    ids, mask = model.tokenize(["small left effusion", "enlarged heart and an opacity in the right lung"])
    with torch_backend.fused_attention():  # torch's fast path has no counterpart in a graph
        patches, visible = image(picture)
        shapes = [[1, -1, patches.shape[2]], [1, -1], [-1, -1], [-1, -1]]
        return {
            "image": converted(ov, image, (picture,), [list(picture.shape)]),
            "phrases": converted(ov, phrases, (patches, visible, ids, mask), shapes),
        }


def converted(ov: Any, module: nn.Module, example: tuple[Tensor, ...], shapes: list[list[int]]) -> Any:
    """Return the graph of a module for inputs of these shapes, -1 for any length.

    `openvino.convert_model` would multiply scales into weights, which half precision then cannot hold.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # tracing reads attributes that transformers warns about
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns about every Python number
            reader = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(module.eval(), example_input=example)
            graph = reader.convert(reader.load(decoder))
    finally:
        transformers_logging.set_verbosity(before)
    graph.reshape({each: ov.PartialShape(shape) for each, shape in zip(graph.inputs, shapes, strict=True)})
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)
    _simplify(ov, graph)
    return graph


def _simplify(ov: Any, graph: Any) -> None:
    """Rewrite a graph as OpenVINO does at each load, with the same outputs: loading then takes less time.

    Weights are inputs meanwhile, so no scale is multiplied into them. Those that half precision holds exactly
    are then stored in it; loading the graph widens them. Equal constants become one.
    """
    from openvino._offline_transformations import apply_moc_transformations

    weights = []
    for each in graph.get_ordered_ops():
        if _is_weights(ov, each):
            hidden = ov.opset13.parameter(each.output(0).get_partial_shape(), ov.Type.f32)
            _replace(each, hidden.output(0))
            weights.append((hidden, each))
    graph.add_parameters([hidden for hidden, _ in weights])
    graph.validate_nodes_and_infer_types()
    for _ in range(2):  # the first time leaves work to the second
        apply_moc_transformations(graph, False)
    for hidden, each in weights:
        _replace(hidden, _halved(ov, each))
        graph.remove_parameter(hidden)
    _merge_constants(graph)
    graph.validate_nodes_and_infer_types()


def _is_weights(ov: Any, operation: Any) -> bool:
    """Return whether this is a large matrix or kernel; vectors, such as those of batch norms, are not."""
    if operation.get_type_name() != "Constant" or operation.get_element_type() != ov.Type.f32:
        return False
    shape = operation.output(0).get_shape()
    return len(shape) > 1 and math.prod(shape) >= LARGE


def _halved(ov: Any, constant: Any) -> Any:
    """Return the output of a constant, widened from half precision if that holds it exactly."""
    with np.errstate(over="ignore"):
        half = constant.data.astype(np.float16)
    if not (half == constant.data).all():
        return constant.output(0)
    return ov.opset13.convert(ov.opset13.constant(half), "f32").output(0)


def _merge_constants(graph: Any) -> None:
    """Let all users of equal constants use the first of them."""
    first: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
    for each in graph.get_ordered_ops():
        if each.get_type_name() != "Constant":
            continue
        key = str(each.get_element_type()), tuple(each.output(0).get_shape()), each.data.tobytes()
        if key in first:
            _replace(each, first[key])
        first.setdefault(key, each.output(0))


def _replace(operation: Any, output: Any) -> None:
    """Let all users of the output of an operation use another output."""
    for each in list(operation.output(0).get_target_inputs()):
        each.replace_source_output(output)


def _pad_of(model: Grounder, folder: Path) -> int | None:
    """Return the id of padding if the saved tokenizer.json gives the ids of the model's tokenizer."""
    pad = model.tokenizer.pad_token_id
    if not isinstance(pad, int) or not (folder / model_dir.TOKENIZER).is_file():
        return None
    own = model.tokenize(TEXTS)
    saved = SavedTokenizer(folder / model_dir.TOKENIZER, pad).arrays(TEXTS, model.config.text_tokens)
    same = all(np.array_equal(a, b) for a, b in zip(own, saved, strict=True))
    return pad if same else None
