"""A trained grounding network and the folder that holds it: config.json, model.safetensors, tokenizer.

>>> from medground.models import grounder
>>> model = grounder.load(Path("runs/finetuned"))
"""

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medground import checkpoints, registry
from medground.errors import MedgroundError
from medground.models import encoders, pretrained
from medground.models.config import SIZES, SMALL_IMAGE_ENCODER, SMALL_TEXT_ENCODER, GrounderConfig
from medground.models.network import Network

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS, CONFIG = checkpoints.WEIGHTS, "config.json"
ANEW = "copy the model's folder anew"


@dataclass(frozen=True)
class Grounder:
    """A network with what it needs to read text; `name` is the hash of its saved weights, else ""."""

    config: GrounderConfig
    network: Network
    tokenizer: "PreTrainedTokenizerBase"
    name: str = ""

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """(U, T) ids and (U, T) mask of the texts."""
        return encoders.tokenize(self.tokenizer, texts, self.config.text_tokens)


def build(
    size: str,
    texts: list[str],
    *,
    architecture: str = "transvg",
    image_encoder: str | None = None,
    text_encoder: str | None = None,
) -> Grounder:
    """A new network of a named size and architecture, its own weights drawn from torch's generator.

    Encoders are folders or hub names of pre-trained ones, or None for small ones of our own, whose
    vocabulary is then made of `texts`.
    """
    if text_encoder is None:
        tokenizer = encoders.build_tokenizer(texts)
        words = encoders.build_text_encoder(SMALL_TEXT_ENCODER | {"vocab_size": len(tokenizer)})
    else:
        words, tokenizer = pretrained.load_text_encoder(text_encoder)
    if image_encoder is None:
        pictures = encoders.build_image_encoder(SMALL_IMAGE_ENCODER)
    else:
        pictures = pretrained.load_image_encoder(image_encoder)
    plain = {"image_encoder": encoders.to_plain(pictures), "text_encoder": encoders.to_plain(words)}
    kind: type[Network] = registry.ARCHITECTURES[architecture].load()
    sizes = {**SIZES[size], **kind.own_sizes}
    sizes["equalise"] = image_encoder is None  # a pre-trained one knows films as they are
    sizes["grey"] = None if image_encoder is None else pretrained.grey_of(image_encoder)
    sizes["image_size"] = encoders.side_for(pictures, sizes.get("image_size", GrounderConfig.image_size))
    config = GrounderConfig.from_json({"architecture": architecture, **plain, **sizes})
    return Grounder(config, kind(config, pictures, words), tokenizer)


def save(folder: Path, grounder: Grounder, record: dict[str, Any] | None = None) -> Grounder:
    """Write the model into the folder and return it with its hash as name.

    All is written beside first, so that a save that fails leaves the model before. The weights come last: a
    folder with weights is whole. `record` goes into their header.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="model.partial.") as beside:
        save_tokenizer(grounder.tokenizer, Path(beside))
        write_json(Path(beside, CONFIG), grounder.config.to_json())
        weights = {name: each.contiguous() for name, each in grounder.network.state_dict().items()}
        header = grounder.config.to_json() | {"record": record or {}}
        checkpoints.save(folder / WEIGHTS, weights, header, before=lambda: _move(Path(beside), folder))
    return replace(grounder, name=name_of(folder))


def _move(beside: Path, folder: Path) -> None:
    """Move the files into the folder. Where they are another model's than those in it, its weights go first:
    a move that is cut short leaves a folder without weights, which `load` refuses, and no mixture."""
    moved = [path for path in sorted(beside.iterdir()) if not _is_same(path, folder / path.name)]
    if moved:
        (folder / WEIGHTS).unlink(missing_ok=True)
    for path in moved:
        os.replace(path, folder / path.name)


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write the values as JSON for people to read; PATH is replaced only when all is written."""
    partial = Path(f"{path}.partial")
    partial.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write its files beside and move them: those of an earlier model stand until these are whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="tokenizer.partial.") as beside:
        if hasattr(tokenizer, "backend_tokenizer"):  # on a full disk its own writing raises a bare Exception
            Path(beside, "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(pretty=True))
        tokenizer.save_pretrained(beside)
        for path in sorted(Path(beside).iterdir()):
            os.replace(path, folder / path.name)


def name_of(folder: Path) -> str:
    """The name of the model in a folder: the hash of its weights."""
    return checkpoints.hash_of(_needed(folder, WEIGHTS))


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        hint = "a model is a folder with config.json, model.safetensors and a tokenizer"
        raise MedgroundError(f"{folder}: no {name}; {hint}")
    return folder / name


def load(folder: Path, device: str = "cpu") -> Grounder:
    """The model of a folder that `save` wrote, in evaluation mode on the device."""
    for name in (CONFIG, WEIGHTS, "tokenizer.json"):
        _needed(folder, name)
    config = read_config(folder)
    network = _network(config)
    weights, _ = checkpoints.load(folder / WEIGHTS)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise MedgroundError(f"{folder / WEIGHTS}: these weights do not fit its config.json") from None
    tokenizer = load_tokenizer(folder)
    encoders.check_vocabulary(tokenizer, network.text_encoder, str(folder))
    return Grounder(config, network.to(device).eval(), tokenizer, name_of(folder))


def read_config(folder: Path) -> GrounderConfig:
    """The config of the model in a folder, without its weights."""
    try:
        values = json.loads(_needed(folder, CONFIG).read_text())
    except ValueError:  # not JSON, not UTF-8
        raise MedgroundError(f"{folder / CONFIG}: not JSON; {ANEW}") from None
    return GrounderConfig.from_json(values)


def size_of(config: GrounderConfig) -> str | None:
    """The name of the size that a model was built with, None where it is none of `SIZES`."""
    own = _kind(config).own_sizes
    shape = SIZES["paper"].keys() - {"image_size"}  # patches may ask for a larger one
    for name, sizes in SIZES.items():
        built = GrounderConfig(image_encoder={}, text_encoder={}, **{**sizes, **own})
        if all(getattr(built, each) == getattr(config, each) for each in shape):
            return name
    return None


def _kind(config: GrounderConfig) -> type[Network]:
    if config.architecture not in registry.ARCHITECTURES:
        known = ", ".join(sorted(registry.ARCHITECTURES))
        raise MedgroundError(f"architecture {config.architecture!r} is not known here; known are {known}")
    kind: type[Network] = registry.ARCHITECTURES[config.architecture].load()
    return kind


def _network(config: GrounderConfig) -> Network:
    kind = _kind(config)
    image_encoder = encoders.build_image_encoder(config.image_encoder)
    return kind(config, image_encoder, encoders.build_text_encoder(config.text_encoder))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a model's folder."""
    from transformers import AutoTokenizer

    path = folder / "tokenizer.json"
    try:  # of a damaged file the library says no more than that it is an exception
        whole = isinstance(json.loads(path.read_text()), dict) if path.is_file() else True
        if whole:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ValueError:
        pass
    raise MedgroundError(f"{path}: damaged; {ANEW}")
