"""Image and text encoders that transformers builds: from a config, a local folder or a hub name.

Letters: B images, C channels, S side of the letterboxed square, P patches, U texts, T tokens.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medground.compat import hide_broken_torchvision
from medground.errors import MedgroundError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Mean and deviation that pre-trained three-channel backbones expect (ImageNet, averaged over the colours,
# since a film is grey); small networks of ours get a plain centring.
THREE_CHANNELS, ONE_CHANNEL = (0.449, 0.226), (0.5, 0.25)
WORD_MARK = "##"


def build_image_encoder(config: dict[str, Any]) -> nn.Module:
    """An untrained backbone of this transformers config; its forward gives feature maps."""
    hide_broken_torchvision()
    from transformers import AutoBackbone, AutoConfig

    return AutoBackbone.from_config(AutoConfig.for_model(**config))


def load_image_encoder(name: str) -> nn.Module:
    """A pre-trained backbone from a local folder or a hub name; its last feature map is used."""
    hide_broken_torchvision()
    from transformers import AutoBackbone, AutoConfig

    config = _loaded(AutoConfig, name, "image encoder")
    # by way of its class: AutoBackbone.from_pretrained takes a folder's path for a hub name
    return _loaded(type(AutoBackbone.from_config(config)), name, "image encoder")


def build_text_encoder(config: dict[str, Any]) -> nn.Module:
    """An untrained text encoder of this transformers config."""
    hide_broken_torchvision()
    from transformers import AutoConfig, AutoModel

    return AutoModel.from_config(AutoConfig.for_model(**config))


def load_text_encoder(name: str) -> tuple[nn.Module, "PreTrainedTokenizerBase"]:
    """A pre-trained text encoder and its tokenizer from a local folder or a hub name."""
    hide_broken_torchvision()
    from transformers import AutoModel, AutoTokenizer

    words, tokenizer = _loaded(AutoModel, name, "text encoder"), _loaded(AutoTokenizer, name, "tokenizer")
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes an empty one where none is
        raise MedgroundError(f"{name}: no tokenizer there that transformers can load")
    return words, tokenizer


def same_shape(config: dict[str, Any], name: str, what: str) -> bool:
    """Whether the "image encoder" or "text encoder" at `name` has the same parameters as that of `config`.

    Names and shapes count; no weights are read.
    """
    hide_broken_torchvision()
    from transformers import AutoBackbone, AutoConfig, AutoModel

    kind = AutoBackbone if what == "image encoder" else AutoModel
    with torch.device("meta"):  # shapes alone: no memory, no time
        both = [
            kind.from_config(each)
            for each in (AutoConfig.for_model(**config), _loaded(AutoConfig, name, what))
        ]
    one, other = ({key: each.shape for key, each in network.state_dict().items()} for network in both)
    return one == other


def _loaded(kind: Any, name: str, what: str) -> Any:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        return kind.from_pretrained(name)
    except (OSError, ValueError):
        raise MedgroundError(f"{name}: no {what} there that transformers can load") from None


def to_plain(encoder: nn.Module) -> dict[str, Any]:
    """The transformers config of an encoder as a plain object that builds it again."""
    values = encoder.config.to_diff_dict()  # type: ignore[union-attr,operator]
    dropped = {"architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path"}
    return {"model_type": encoder.config.model_type} | {k: v for k, v in values.items() if k not in dropped}  # type: ignore[union-attr]


def feature_map(encoder: nn.Module, images: Tensor) -> Tensor:
    """(B, C, h, w) last feature map of (B, 1, S, S) images in [0, 1]."""
    channels: int = encoder.config.num_channels  # type: ignore[union-attr,assignment]
    mean, deviation = THREE_CHANNELS if channels == 3 else ONE_CHANNEL
    scaled = ((images - mean) / deviation).expand(-1, channels, -1, -1)
    return encoder(scaled).feature_maps[-1]


def build_tokenizer(texts: list[str]) -> "PreTrainedTokenizerBase":
    """A WordPiece tokenizer with every word of the texts as one piece, and letters for all other words.

    The same texts give the same vocabulary, in whatever order they come.
    """
    hide_broken_torchvision()
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


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: list[str], most: int) -> tuple[Tensor, Tensor]:
    """(U, T) token ids and (U, T) mask, True on tokens; T is at most `most`, longer texts are cut.

    T is a multiple of 8, and so less than a `most` that is none: kernels are kept for each shape that was
    met, so few shapes keep memory flat.
    """
    coded = tokenizer(
        texts,
        padding=True,
        pad_to_multiple_of=8,
        truncation=True,
        max_length=most - most % 8,
        return_tensors="pt",
    )
    return coded["input_ids"], coded["attention_mask"].to(torch.bool)
