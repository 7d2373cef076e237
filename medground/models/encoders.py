"""Image and text encoders built by transformers, and their inputs; `pretrained` loads saved ones.

Letters: B images, C channels, S side of the letterboxed square, h x w patches, U texts, T tokens, D width.
"""

import errno
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medground import checkpoints, config_limits
from medground.compat_transformers import invalid_config, prepare_transformers
from medground.errors import MedgroundError
from medground.models import lite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Default mean and standard deviation for three-channel backbones (ImageNet's, averaged over the colors, as
# radiographs are grey) and for the small networks of this package.
THREE_CHANNELS, ONE_CHANNEL = (0.449, 0.226), (0.5, 0.25)
WORD_MARK = "##"
MOST_TOKENS = 512


class PatchTokens(nn.Module):
    """A vision transformer without a backbone in transformers; its last patches are the feature map."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.channels = [self.config.hidden_size]

    @property
    def config(self) -> Any:
        """The config of the model."""
        return self.model.config

    def forward(self, images: Tensor) -> Any:
        """Return `feature_maps` as backbones do: one of (B, D, h, w) for (B, C, S, S) images."""
        from transformers.modeling_outputs import BackboneOutput

        tokens = self.model(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state
        height, width = (side // self.config.patch_size for side in images.shape[-2:])
        patches = tokens[:, -height * width :]  # tokens of the whole image come first
        return BackboneOutput(feature_maps=(patches.transpose(1, 2).unflatten(2, (height, width)),))


def build_image_encoder(config: dict[str, Any]) -> nn.Module:
    """Return an untrained backbone of this config; its forward returns feature maps."""
    if (kind := config.get("model_type")) in lite.MODEL_TYPES:
        return lite.build(kind)
    return image_encoder_of(_config_of(config))


def image_encoder_of(config: Any) -> nn.Module:
    """Return an untrained backbone; raise MedgroundError if transformers has none of this type."""
    prepare_transformers()
    from transformers import AutoBackbone, AutoModel

    try:
        result: nn.Module = AutoBackbone.from_config(config)
        return result
    except ValueError:  # not among its backbones: ViT, for one
        model = AutoModel.from_config(config)
    except ImportError:
        raise MedgroundError(f"{config.model_type} needs a package that is not installed") from None
    if "interpolate_pos_encoding" not in inspect.signature(model.forward).parameters:
        raise MedgroundError(f"{config.model_type} is not an image encoder with a feature map")
    return PatchTokens(model)


def _config_of(values: dict[str, Any]) -> Any:
    place = f"the config of a {values.get('model_type')}"
    checkpoints.refuse_loading_keys(values, place)
    config_limits.check(values, place)
    prepare_transformers()
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**values)
    except ValueError:
        raise MedgroundError(f"transformers has no model of type {values.get('model_type')!r}") from None
    except (invalid_config(), TypeError):
        raise MedgroundError(f"{place} has an invalid value") from None


def build_text_encoder(config: dict[str, Any]) -> nn.Module:
    """Return an untrained text encoder of this transformers config."""
    return text_encoder_of(_config_of(config))


def text_encoder_of(config: Any) -> nn.Module:
    """Return an untrained text encoder; raise MedgroundError if transformers has no such model."""
    prepare_transformers()
    from transformers import AutoModel

    try:
        result: nn.Module = AutoModel.from_config(config)
        return result
    except ValueError:
        raise MedgroundError(f"{config.model_type} is not a text encoder") from None


def keep_layers(encoder: Any, count: int) -> None:
    """Keep the first layers of a text encoder; raise MedgroundError if it has fewer, or another structure."""
    found = [getattr(encoder, name) for name in ("encoder", "transformer") if hasattr(encoder, name)]
    layers = getattr(found[0], "layer", None) if found else None
    if layers is None or count > len(layers):
        raise MedgroundError(f"--text-layers {count}: the text encoder has {len(layers or ())} layers")
    found[0].layer = layers[:count]
    setattr(encoder.config, "n_layers" if hasattr(encoder.config, "n_layers") else "num_hidden_layers", count)


def check_vocabulary(tokenizer: "PreTrainedTokenizerBase", encoder: nn.Module, place: str) -> None:
    """Raise MedgroundError if the tokenizer has more tokens than the encoder has embeddings."""
    known = encoder.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if (most := max(tokenizer.get_vocab().values())) >= known:
        raise MedgroundError(
            f"{place}: the tokenizer has {most + 1} tokens, the weights {known}: they are of different models"
        )


def side_for(encoder: nn.Module, size: int) -> int:
    """Return the smallest side, at least `size`, that is a multiple of the encoder's patch size."""
    patch = getattr(encoder.config, "patch_size", 1)
    return -(-size // patch) * patch if isinstance(patch, int) else size


def patch_count(encoder: nn.Module, size: int) -> int:
    """Return the number of patches of a square of this side."""
    with torch.no_grad():
        was = encoder.training
        square = torch.zeros(1, 1, size, size)
        found = feature_map(encoder.eval(), square)
        encoder.train(was)
    return found.shape[-2] * found.shape[-1]


def to_plain(encoder: nn.Module) -> dict[str, Any]:
    """Return the transformers config of an encoder as a plain object, to build it again."""
    values = encoder.config.to_diff_dict()  # type: ignore[union-attr,operator]
    dropped = {"architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path"}
    return {"model_type": encoder.config.model_type} | {k: v for k, v in values.items() if k not in dropped}  # type: ignore[union-attr]


def feature_map(
    encoder: nn.Module, images: Tensor, grey: Sequence[float] | None = None, inside: Tensor | None = None
) -> Tensor:
    """Return the (B, C, h, w) last feature map of (B, 1, S, S) images in [0, 1].

    grey, inside: those of `scaled`.
    """
    result: Tensor = encoder(scaled(encoder, images, grey, inside)).feature_maps[-1]
    return result


def scaled(
    encoder: nn.Module, images: Tensor, grey: Sequence[float] | None = None, inside: Tensor | None = None
) -> Tensor:
    """Return the encoder's (B, C, S, S) input for (B, 1, S, S) images in [0, 1].

    grey: see GrounderConfig. inside: (B, 1, S, S), 0 on the padding, which gets the mean color.
    """
    channels: int = encoder.config.num_channels  # type: ignore[union-attr,assignment]
    mean, deviation = images.new_tensor(gray_values(channels, grey)).view(2, 1, -1, 1, 1)
    found: Tensor = ((images - mean) / deviation).expand(-1, channels, -1, -1)
    return found if inside is None else found * inside


def save_pretrained(model: Any, folder: Path) -> None:
    """Write a model as transformers does, without its progress bar.

    Raises OSError if the system refuses the weights; the library has an error of its own for that.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging as messages

    shown = messages.is_progress_bar_enabled()
    messages.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        reason = re.search(r"os error (\d+)", str(error))
        number = int(reason[1]) if reason else errno.EIO
        raise OSError(number, os.strerror(number), str(folder)) from None
    finally:
        if shown:
            messages.enable_progress_bar()


def gray_values(channels: int, grey: Sequence[float] | None) -> Sequence[float]:
    """Return the mean and standard deviation of an encoder's images, one number each or one per channel.

    grey: that of a GrounderConfig.
    """
    return grey or (THREE_CHANNELS if channels == 3 else ONE_CHANNEL)


def build_tokenizer(texts: list[str]) -> "PreTrainedTokenizerBase":
    """Return a WordPiece tokenizer with one token per word of the texts, and letters for all other words.

    The order of the texts has no effect.
    """
    prepare_transformers()
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalise, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for text in set(texts) for word, _ in split.pre_tokenize_str(normalise.normalize_str(text))}
    letters = sorted({chr(code) for code in range(33, 127) if not chr(code).isupper()} | set("".join(words)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = dict.fromkeys([*special, *letters, *(WORD_MARK + each for each in letters), *sorted(words)])
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalise, split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def holds_numbers(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether a tokenizer of `build_tokenizer` holds a number of several digits, as in 0.3.0."""
    held = tokenizer.get_vocab()
    return held.get("[SEP]") == 3 and any(len(word) > 1 and word.isdigit() for word in held)


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: list[str], most: int) -> tuple[Tensor, Tensor]:
    """Return (U, T) token ids and (U, T) mask, True on tokens; longer texts are cut to `most` tokens.

    T is a multiple of 8, or `most`: torch caches a kernel for each shape, so few shapes save memory.
    """
    coded = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
    ids, mask = coded["input_ids"], coded["attention_mask"].to(torch.bool)
    more = (0, min(-ids.shape[1] % 8, most - ids.shape[1]))
    pad = tokenizer.pad_token_id or 0
    return nn.functional.pad(ids, more, value=pad), nn.functional.pad(mask, more, value=False)


def longest_text(encoder: nn.Module) -> int:
    """Return the maximum number of tokens that a text encoder takes, at most `MOST_TOKENS`."""
    config: Any = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or MOST_TOKENS
    if "roberta" in config.model_type:  # positions of tokens start after that of the padding
        positions -= config.pad_token_id + 1
    return min(int(positions), MOST_TOKENS)
