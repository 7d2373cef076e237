"""Published checkpoints of DETR, TransVG, MedRPG, MDETR and AGP as folders of ours.

Each tensor of a checkpoint has one rule: its name here, or the reason why it is left out. A tensor without a
rule is an error, and so is a tensor of ours that no rule fills. Names are those of the public code.

A DETR becomes an image encoder for --image-encoder, with the layers over it. The others become model folders
for --init-from. The text encoder's config and tokenizer are not in a checkpoint: they come from a folder.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medground import checkpoints, registry
from medground.errors import MedgroundError
from medground.models import encoders, grounder, pretrained
from medground.models.checkpoint_names import KINDS, LEFT_OUT, RULES
from medground.models.config import GrounderConfig
from medground.models.network import Network

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of the images of ImageNet, as published
RECORD = "conversion.json"
NEW = re.compile(r"present\.|align_(queries|tokens)\.|text_encoder\.pooler\.")  # a checkpoint may lack these


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Values that do not follow from the shapes of tensors; the arguments in a checkpoint take precedence."""

    kind: str
    text_encoder: str | None = None
    image_size: int = 640
    heads: int = 8
    queries: int | None = None  # keep only the first ones


@dataclass(frozen=True)
class Converted:
    """Tensors by their names here, the old name of each, and the tensors left out with the reason."""

    weights: dict[str, Tensor]
    sources: dict[str, str]
    left_out: dict[str, str]
    arguments: Mapping[str, Any]


def convert(path: Path, folder: Path, settings: Settings) -> Converted:
    """Write the folder of a checkpoint, and return what became of its tensors.

    Raises MedgroundError for tensors without a rule, missing tensors and settings that do not fit.
    """
    weights, arguments = read(path)
    kind = settings.kind
    if kind == "agp":  # both variants have their origin's names
        kind = "transvg" if "vl_pos_embed.weight" in weights else "mdetr"
    _check_arguments(path, arguments)
    found = _renamed(path, weights, arguments, kind)
    if settings.queries and "queries" in found.weights:
        found.weights["queries"] = found.weights["queries"][: settings.queries]
    if kind == "detr":
        _write_image_encoder(path, folder, found, settings)
    else:
        model = _model(path, found, kind, settings)
        grounder.save(folder, model)
    values = {"kind": settings.kind, "sources": found.sources, "left_out": found.left_out}
    grounder.write_json(folder / RECORD, values)
    return found


def read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return (tensors by name, arguments of the training) of a pickle or safetensors file.

    A pickle is read with torch's `weights_only`, which runs no code of the file.
    """
    import argparse
    import pickle

    if not checkpoints.is_pickle(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path), {}
        except SafetensorError:
            raise MedgroundError(f"{path}: damaged, or neither a pickle nor safetensors") from None
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise MedgroundError(f"{path}: damaged, or holds more than tensors and plain values") from None
    if not isinstance(held, Mapping):
        raise MedgroundError(f"{path}: expected a dictionary of tensors")
    arguments = held.get("args")
    names = [name for name in ("model_ema", "model", "state_dict") if isinstance(held.get(name), Mapping)]
    tensors = held[names[0]] if names else held
    weights = {str(name).removeprefix("module."): each for name, each in tensors.items()}
    if not weights or not all(isinstance(each, Tensor) for each in weights.values()):
        raise MedgroundError(f"{path}: expected a dictionary of tensors, or one under the key 'model'")
    return weights, vars(arguments) if isinstance(arguments, argparse.Namespace) else {}


def _check_arguments(path: Path, arguments: Mapping[str, Any]) -> None:
    """Raise MedgroundError for a network whose shape is not built here."""
    for name in ("dilation", "pre_norm", "masks"):
        if arguments.get(name):
            raise MedgroundError(f"{path}: trained with {name}; such networks cannot be converted")


def _renamed(path: Path, weights: dict[str, Tensor], arguments: Mapping[str, Any], kind: str) -> Converted:
    """Return the tensors under their names here; raise MedgroundError for names without a rule."""
    found, sources, left_out, unknown = {}, {}, {}, []
    for name, tensor in weights.items():
        if reason := next((why for old, why in LEFT_OUT[kind] if re.fullmatch(old, name)), None):
            left_out[name] = reason
            continue
        new = next((re.sub(old, to, name) for old, to in RULES[kind] if re.fullmatch(old, name)), None)
        if new is None:
            unknown.append(name)
            continue
        new = re.sub(r"@(\d+)", lambda match: str(int(match[1]) - 1), new)  # ours count from 0
        new = re.sub(r"#(\d+)", lambda match: str(int(match[1]) * 2), new)  # a ReLU after each linear layer
        found[new], sources[new] = tensor, name
    if unknown:
        raise MedgroundError(
            f"{path}: {len(unknown)} tensors have no place in a {KINDS[kind]}, such as {unknown[0]}"
        )
    return Converted(found, sources, left_out, arguments)


def _image_config(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the transformers config of the ResNet whose tensors these are."""
    first = weights.get("image_encoder.embedder.embedder.convolution.weight")
    layer = re.compile(
        r"image_encoder\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.weight"
    )
    places = {tuple(map(int, match.groups())): name for name in weights if (match := layer.fullmatch(name))}
    if first is None or not places:
        raise MedgroundError(f"{path}: no ResNet in it")
    stages = max(stage for stage, _, _ in places) + 1
    parts = max(part for _, _, part in places) + 1
    return {
        "model_type": "resnet",
        "num_channels": first.shape[1],
        "embedding_size": first.shape[0],
        "layer_type": "bottleneck" if parts == 3 else "basic",
        "depths": [max(n for stage, n, _ in places if stage == each) + 1 for each in range(stages)],
        "hidden_sizes": [weights[places[each, 0, parts - 1]].shape[0] for each in range(stages)],
        "out_features": [f"stage{stages}"],
    }


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes of a network that follow from the shapes of its tensors."""

    def count(part: str) -> int:
        found = [re.match(rf"{part}\.layers\.(\d+)\.", name) for name in weights]
        return max((int(match[1]) + 1 for match in found if match), default=0)

    inner = next((each for name, each in weights.items() if name.endswith("layers.0.linear1.weight")), None)
    return {
        "width": weights["to_patches.weight"].shape[0],
        "feed_forward": 0 if inner is None else inner.shape[0],
        "visual_layers": count("visual"),
        "fusion_layers": count("fusion"),
        "decoder_layers": count("decoder") or count("fusion"),  # a TransVG has none, and ignores the number
    }


def _heads(path: Path, arguments: Mapping[str, Any], settings: Settings) -> int:
    heads = {arguments[name] for name in ("nheads", "vl_nheads") if name in arguments}
    if len(heads) > 1:
        raise MedgroundError(
            f"{path}: its parts have {sorted(heads)} attention heads; one number is supported"
        )
    return int(heads.pop()) if heads else settings.heads


def _model(path: Path, found: Converted, kind: str, settings: Settings) -> grounder.Grounder:
    """Return the model with the tensors of a checkpoint."""
    if settings.text_encoder is None:
        raise MedgroundError("--text-encoder: give the text encoder that the checkpoint was trained with")
    torch.manual_seed(0)  # of parts that the checkpoint lacks
    texts, tokenizer = pretrained.text_skeleton(settings.text_encoder)
    used = found.arguments.get("bert_enc_num")
    if used is not None and used != getattr(texts.config, "num_hidden_layers", used):
        raise MedgroundError(f"{path}: trained with {used} layers of the text encoder; give one with as many")
    sizes = _sizes(found.weights)
    config = GrounderConfig(
        architecture="mdetr" if kind == "mdetr" else "transvg",
        image_size=int(found.arguments.get("imsize", settings.image_size)),
        text_tokens=encoders.longest_text(texts),
        image_encoder=_image_config(path, found.weights),
        text_encoder=encoders.to_plain(texts),
        grey=[*MEAN, *DEVIATION],
        norm="post",
        padding="visible" if settings.kind == "agp" else "mean",
        heads=_heads(path, found.arguments, settings),
        dropout=float(found.arguments.get("dropout", 0.1)),
        queries=len(found.weights["queries"]) if "queries" in found.weights else 1,
        **sizes,
    )
    pictures = encoders.build_image_encoder(config.image_encoder)
    if "table.weight" in found.weights:
        patches = encoders.patch_count(pictures, config.image_size)
        config = replace(config, text_tokens=len(found.weights["table.weight"]) - 1 - patches)
        if config.text_tokens < 1:
            raise MedgroundError(
                f"{path}: --image-size {config.image_size} does not fit its table of positions"
            )
    architecture: type[Network] = registry.ARCHITECTURES[config.architecture].load()
    network = architecture(config, pictures, texts)
    _fill(path, network, found.weights)
    encoders.check_vocabulary(tokenizer, texts, settings.text_encoder)
    return grounder.Grounder(config, network, tokenizer)


def _fill(path: Path, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the tensors; raise MedgroundError if one is missing, has another shape or no place."""
    own = module.state_dict()
    given = {name: each.reshape(own[name].shape) if name == "reg" else each for name, each in weights.items()}
    counts = {name for name in own if name.endswith("num_batches_tracked")}  # frozen norms have none
    lacking = sorted(name for name in own.keys() - given.keys() - counts if not NEW.match(name))
    wrong = sorted(given.keys() - own.keys())
    wrong += sorted(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape)
    if lacking or wrong:
        what = f"{lacking[0]} is missing" if lacking else f"{wrong[0]} does not fit"
        raise MedgroundError(f"{path}: {len(lacking) + len(wrong)} tensors do not fit this network: {what}")
    module.load_state_dict(own | given)


def _write_image_encoder(path: Path, folder: Path, found: Converted, settings: Settings) -> None:
    """Write the backbone for --image-encoder, and the layers over it for --norm post."""
    encoder = encoders.build_image_encoder(_image_config(path, found.weights))
    sizes, heads = _sizes(found.weights), _heads(path, found.arguments, settings)
    _fill(path, nn.ModuleDict({"image_encoder": encoder}), _part(found.weights, "image_encoder."))
    folder.mkdir(parents=True, exist_ok=True)
    encoders.save_pretrained(encoder, folder)
    means = {"image_processor_type": "ConvNextImageProcessor", "image_mean": MEAN, "image_std": DEVIATION}
    (folder / "preprocessor_config.json").write_text(json.dumps(means, indent=2) + "\n")
    over = _part(found.weights, "to_patches.") | _part(found.weights, "visual.")
    checkpoints.save(folder / pretrained.VISUAL, over, {**sizes, "heads": heads})


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: each for name, each in weights.items() if name.startswith(prefix)}
