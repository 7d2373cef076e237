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

from medground import checkpoints, output_files, registry, strict_json
from medground.errors import BadRecord, MedgroundError
from medground.model_dir import CONFIG, COPY_AGAIN, FILES, WEIGHTS, ModelDir
from medground.models import building, encoders, pretrained
from medground.models.config import SIZES, SMALL_IMAGE_ENCODER, SMALL_TEXT_ENCODER, GrounderConfig
from medground.models.network import Network

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Grounder:
    """A network with its config and tokenizer; `name` is the hash of its saved weights, "" before saving."""

    config: GrounderConfig
    network: Network
    tokenizer: "PreTrainedTokenizerBase"
    name: str = ""

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return (U, T) ids and (U, T) mask of the texts."""
        return encoders.tokenize(self.tokenizer, texts, self.config.text_tokens)


def build(
    size: str,
    texts: list[str],
    *,
    architecture: str = "transvg",
    image_encoder: str | None = None,
    text_encoder: str | None = None,
    text_layers: int | None = None,
    **shape: Any,
) -> Grounder:
    """Return a new network of a named size and architecture, with random weights of torch's generator.

    Encoders are folders or hub names of pre-trained ones. None builds a small one; the small text encoder's
    vocabulary is made from `texts`. A folder that `convert weights` made of a DETR has the visual layers,
    too. shape: values of GrounderConfig in place of those of the size; None keeps the latter.
    """
    if text_encoder is None:
        tokenizer = encoders.build_tokenizer(texts)
        words = encoders.build_text_encoder(SMALL_TEXT_ENCODER | {"vocab_size": len(tokenizer)})
    else:
        words, tokenizer = pretrained.load_text_encoder(text_encoder)
    if text_layers:
        encoders.keep_layers(words, text_layers)
    if image_encoder is None:
        pictures = encoders.build_image_encoder(SMALL_IMAGE_ENCODER)
    else:
        pictures = pretrained.load_image_encoder(image_encoder)
    plain = {"image_encoder": encoders.to_plain(pictures), "text_encoder": encoders.to_plain(words)}
    kind: type[Network] = registry.ARCHITECTURES[architecture].load()
    sizes = {**SIZES[size], **kind.own_sizes}
    sizes["equalise"] = image_encoder is None  # pre-trained encoders expect images without equalization
    colors = shape.get("norm") == "post"
    sizes["grey"] = None if image_encoder is None else pretrained.grey_of(image_encoder, colors)
    longest = encoders.longest_text(words)
    given = {name: value for name, value in shape.items() if value is not None}
    fixed = given.get("norm") == "post" and kind.has_table
    sizes["text_tokens"] = min(longest, sizes.get("text_tokens", longest)) if fixed else longest
    sizes |= given
    if sizes["text_tokens"] > longest:
        raise MedgroundError(f"--text-tokens {sizes['text_tokens']}: the text encoder takes {longest}")
    sizes["image_size"] = encoders.side_for(pictures, sizes.get("image_size", GrounderConfig.image_size))
    config = GrounderConfig.from_json({"architecture": architecture, **plain, **sizes})
    network = kind(config, pictures, words)
    if image_encoder is not None:
        pretrained.load_visual(network, image_encoder, config.norm)
    return Grounder(config, network, tokenizer)


def save(folder: Path, grounder: Grounder, record: dict[str, Any] | None = None) -> Grounder:
    """Write the model into the folder and return it with its hash as name.

    `record`, the training record, goes into the header of the weights. All files are written to a temporary
    folder first, so an earlier model is kept if saving fails. Weights are moved last, so a folder with
    weights is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="model.partial.") as partial:
        save_tokenizer(grounder.tokenizer, Path(partial))
        write_json(Path(partial, CONFIG), grounder.config.to_json())
        weights = {name: each.contiguous() for name, each in grounder.network.state_dict().items()}
        files = ModelDir(Path(partial)).hashes(each.name for each in Path(partial).iterdir())
        header = grounder.config.to_json() | {"record": record or {}, FILES: files}
        checkpoints.save(folder / WEIGHTS, weights, header, before=lambda: _move(Path(partial), folder))
    return replace(grounder, name=name_of(folder))


def _move(partial: Path, folder: Path) -> None:
    """Move the files into the folder.

    If it holds another model, that model's weights are deleted first. So an interrupted move leaves a folder
    without weights, which `load` refuses, and no mixture of two models.
    """
    moved = [path for path in sorted(partial.iterdir()) if not _is_same(path, folder / path.name)]
    if moved:
        (folder / WEIGHTS).unlink(missing_ok=True)
    for path in moved:
        os.replace(path, folder / path.name)


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write the values as indented JSON; PATH is replaced only when the file is complete."""
    with output_files.replacing(path) as stream:
        stream.write(json.dumps(values, indent=2, sort_keys=True).encode() + b"\n")


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer's files; those of an earlier model are kept until these are complete.

    The padding and truncation of an earlier call are not part of them, so the bytes are always the same.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="tokenizer.partial.") as partial:
        if hasattr(tokenizer, "backend_tokenizer"):  # on a full disk its own writing raises a bare Exception
            tokenizer.backend_tokenizer.no_padding()
            tokenizer.backend_tokenizer.no_truncation()
            Path(partial, "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(pretty=True))
        tokenizer.save_pretrained(partial)
        for path in sorted(Path(partial).iterdir()):
            os.replace(path, folder / path.name)


def name_of(folder: Path) -> str:
    """Return the name of the model in a folder: the hash of its weights."""
    return ModelDir(folder).name


def load(folder: Path, device: str = "cpu") -> Grounder:
    """Return the model that `save` wrote into a folder, in evaluation mode on the device.

    Raises MedgroundError if a file is missing or damaged, or if weights and config do not fit.
    """
    files = ModelDir(folder)
    files.require()
    config, network = _built(folder)
    weights, _ = checkpoints.load(files.weights)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise MedgroundError(f"{files.weights}: these weights do not fit its config.json") from None
    tokenizer = load_tokenizer(folder)
    encoders.check_vocabulary(tokenizer, network.text_encoder, str(folder))
    # Last, since the messages of the checks before say what is wrong with a file.
    files.refuse_changed(checkpoints.read_config(files.weights), COPY_AGAIN)
    return Grounder(config, network.to(device).eval(), tokenizer, files.name)


def read_config(folder: Path) -> GrounderConfig:
    """Return the config of the model in a folder, without its weights."""
    return GrounderConfig.from_json(ModelDir(folder).config())


def size_of(config: GrounderConfig) -> str | None:
    """Return the name of the size that a model was built with, None if it is none of `SIZES`."""
    own = _kind(config).own_sizes
    shape = SIZES["paper"].keys() - {"image_size", "text_tokens"}  # the encoders decide on these
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


def _built(folder: Path) -> tuple[GrounderConfig, Network]:
    """Return the config of a folder and its untrained network; raise MedgroundError if there is none."""
    config = read_config(folder)
    weights = ModelDir(folder).weights
    return config, building.built(lambda: _network(config), [weights], folder / CONFIG)


def _network(config: GrounderConfig) -> Network:
    kind = _kind(config)
    image_encoder = encoders.build_image_encoder(config.image_encoder)
    return kind(config, image_encoder, encoders.build_text_encoder(config.text_encoder))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Return the tokenizer in a model folder; raises MedgroundError if its file is damaged."""
    from transformers import AutoTokenizer

    path = folder / "tokenizer.json"
    try:  # for a damaged file the library raises a bare Exception
        whole = isinstance(strict_json.config(path), dict) if path.is_file() else True
        if whole:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (BadRecord, ValueError):
        pass
    raise MedgroundError(f"{path}: damaged; {COPY_AGAIN}")
