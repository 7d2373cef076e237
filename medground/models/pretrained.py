"""Pre-trained encoders from a local folder or `hub:org/name`, as transformers saves them.

Weights of another architecture and tokenizers of another vocabulary are errors. Weights are read only from
safetensors, and no code of a model is run.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from medground import checkpoints, config_limits, locations, strict_json
from medground.compat_transformers import invalid_config, prepare_transformers
from medground.errors import BadRecord, MedgroundError
from medground.models import building, encoders, lite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VISUAL = "visual.safetensors"  # next to an image encoder: the projection and the layers over it
# Model types that are published with their own code around a model of transformers.
KIN = {"cxr-bert": "bert"}
# Weights that a checkpoint may lack: poolers are not used, and backbones add a norm of their last map.
OWN_PARTS = re.compile(r"(pooler|hidden_states_norms)\.")
NAMED = 3  # missing weights that the error message names


def load_image_encoder(name: str) -> nn.Module:
    """Return a pre-trained backbone; its last feature map is used."""
    name = locations.encoder(name)
    if lite.type_of(name):
        return lite.load(Path(name))
    config = _config(name, "image encoder")
    with torch.device("meta"):  # only its class is used
        skeleton = building.built(lambda: encoders.image_encoder_of(config), _files(name), name)
    if not isinstance(skeleton, encoders.PatchTokens):
        return _weights(type(skeleton), name, config, "image encoder")
    return encoders.PatchTokens(_weights(type(skeleton.model), name, config, "image encoder"))


def load_text_encoder(name: str) -> tuple[nn.Module, "PreTrainedTokenizerBase"]:
    """Return a pre-trained text encoder and its tokenizer."""
    name = locations.encoder(name)
    skeleton, tokenizer = text_skeleton(name, located=True)
    words = _weights(type(skeleton), name, skeleton.config, "text encoder")
    encoders.check_vocabulary(tokenizer, words, name)
    return words, tokenizer


def text_skeleton(name: str, located: bool = False) -> tuple[nn.Module, "PreTrainedTokenizerBase"]:
    """Return an untrained text encoder of the config there, and the tokenizer; no weights are read."""
    name = name if located else locations.encoder(name)
    config = _config(name, "text encoder")
    from transformers import AutoTokenizer, BertTokenizer

    own_code = hasattr(config, "auto_map") and config.model_type in KIN.values()
    kind = BertTokenizer if own_code else AutoTokenizer
    tokenizer = _read(kind, name, "tokenizer there that transformers can load", trust_remote_code=False)
    if len(tokenizer) <= len(
        set(tokenizer.all_special_ids)
    ):  # transformers makes an empty one if there is none
        raise MedgroundError(f"{name}: no tokenizer there that transformers can load")
    return building.built(lambda: encoders.text_encoder_of(config), _files(name), name), tokenizer


def load_visual(network: nn.Module, name: str, norm: str) -> None:
    """Load the layers over the image encoder from its folder, if it has them: those of a converted DETR.

    Raises MedgroundError unless they fit a network with --norm post.
    """
    path = Path(locations.encoder(name)) / VISUAL
    if not path.is_file():
        return
    if norm != "post":
        raise MedgroundError(f"{path}: layers with norms after attention: they need --norm post")
    weights, _ = checkpoints.load(path)
    parts = nn.ModuleDict({part: getattr(network, part) for part in ("to_patches", "visual")})
    if not network.visual.layers:  # type: ignore[union-attr]
        weights = {key: each for key, each in weights.items() if key.startswith("to_patches.")}
    checkpoints.fit(parts, weights, path)


def same_shape(config: dict[str, Any], name: str, what: str) -> bool:
    """Return whether the encoder at `name` has the parameter names and shapes of `config`.

    `what` is "image encoder" or "text encoder". No weights are read.
    """
    name = locations.encoder(name)
    if kind := lite.type_of(name):
        return config.get("model_type") == kind
    other = _config(name, what)
    with torch.device("meta"):  # only shapes, without memory
        if what == "image encoder":
            both = [encoders.build_image_encoder(config), encoders.image_encoder_of(other)]
        else:
            both = [encoders.build_text_encoder(config), encoders.text_encoder_of(other)]
    one, two = ({key: each.shape for key, each in network.state_dict().items()} for network in both)
    return one == two


def grey_of(name: str, colors: bool = False) -> list[float] | None:
    """Return [mean, standard deviation] of a backbone's training images, averaged over the colors.

    With `colors`, the means of all colors, then their deviations. None if preprocessor_config.json does not
    have them.
    """
    prepare_transformers()
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(locations.encoder(name))
        if colors:
            return [float(each) for key in ("image_mean", "image_std") for each in values[key]]
        return [round(sum(values[key]) / len(values[key]), 6) for key in ("image_mean", "image_std")]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _files(name: str) -> list[Path]:
    """Return the weights in a local folder; none for a hub name."""
    return sorted(Path(name).glob("*.safetensors"))


def _config(name: str, what: str) -> Any:
    """Return the transformers config, that of `KIN` if the model's own type needs its own code."""
    prepare_transformers()
    from transformers import AutoConfig, PreTrainedConfig

    _check_json(Path(name, "config.json"))
    try:
        values, _ = PreTrainedConfig.get_config_dict(name)
        kind = values.pop("model_type")
        checkpoints.refuse_loading_keys(values, name)
        config_limits.check(values, name)
        return AutoConfig.for_model(KIN.get(kind, kind), **values)
    except (OSError, ValueError, KeyError, TypeError, invalid_config()):
        raise MedgroundError(f"{name}: no {what} there that transformers can load") from None


def _check_json(path: Path) -> None:
    """Raise MedgroundError for a config that is damaged, has a key twice, or is too large."""
    try:
        if path.is_file():
            strict_json.config(path)
    except BadRecord as bad:
        raise MedgroundError(f"{path}: {bad.problem}") from None


def _read(kind: Any, name: str, what: str, **options: Any) -> Any:
    """Return kind.from_pretrained, without messages of transformers; `what` is for the error message."""
    from logging import CRITICAL

    from transformers.utils import logging as messages

    verbosity = messages.get_verbosity()
    messages.disable_progress_bar()
    messages.set_verbosity(CRITICAL)
    try:
        return kind.from_pretrained(name, **options)
    except (OSError, ValueError):
        raise MedgroundError(f"{name}: no {what}") from None
    finally:
        messages.set_verbosity(verbosity)


def _weights(kind: Any, name: str, config: Any, what: str) -> nn.Module:
    """Return a model of this class with all weights of a folder or hub name."""
    from safetensors import SafetensorError

    options = {"config": config, "use_safetensors": True, "output_loading_info": True}
    where = f"{what} in safetensors there; pickles are not read, docs/training.md shows how to convert them"
    try:
        model, found = _read(kind, name, where, **options)
    except RuntimeError:
        raise MedgroundError(f"{name}: its weights do not fit its config.json") from None
    except SafetensorError:
        raise MedgroundError(f"{name}: its weights are damaged or truncated") from None
    if lacking := sorted(each for each in found["missing_keys"] if not OWN_PARTS.match(each)):
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        raise MedgroundError(
            f"{name}: its weights are of another architecture or incomplete; "
            f"missing: {', '.join(lacking[:NAMED])}{more}"
        )
    result: nn.Module = model
    return result
