"""The config of a grounding network, saved as config.json in the model's folder."""

from dataclasses import asdict, dataclass
from typing import Any

from medground import config_limits
from medground.errors import MedgroundError

# Small encoders that train on a laptop. --image-encoder and --text-encoder load published ones.
SMALL_IMAGE_ENCODER = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128],
    "depths": [1, 2, 2],
    "layer_type": "basic",
    "out_features": ["stage3"],  # stride 16: a small image has 10 x 10 patches
}
SMALL_TEXT_ENCODER = {
    "model_type": "bert",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
}


NORMS, PADDINGS = ("pre", "post"), ("black", "mean", "visible")
CHOICES = {"norm": NORMS, "padding": PADDINGS}


@dataclass(frozen=True, kw_only=True)
class GrounderConfig:
    """Sizes of a network; `image_encoder` and `text_encoder` are transformers configs as plain objects."""

    architecture: str = "transvg"
    image_size: int = 160
    text_tokens: int = 48
    image_encoder: dict[str, Any]
    text_encoder: dict[str, Any]
    equalise: bool = False  # equalize grey values first, to remove differences between devices
    grey: list[float] | None = None  # mean and standard deviation of the image encoder's images; or 3 of each
    norm: str = "pre"  # "post": the layers, positions and projections of the published networks
    padding: str = "black"  # "mean": of the mean color; "visible": black, and not masked
    sum_word_pieces: bool = False  # ASG: the pieces of a word are one vector, their sum
    width: int = 128
    heads: int = 4
    feed_forward: int = 256
    visual_layers: int = 1
    fusion_layers: int = 3
    decoder_layers: int = 2  # of mdetr only
    queries: int = 8  # of mdetr only: the maximum number of boxes
    dropout: float = 0.0
    sides_apart: bool = False  # bilateral phrases are split into one query per side, as in fine-tuning
    members: int = 1  # of text-query only: networks over the same encoders, whose boxes are averaged
    findings: list[str] | None = None  # of text-query only: findings whose presence the whole image tells
    score_offsets: list[float] | None = None  # added to the logit of the score, for each of `findings`
    placed: bool = False  # of text-query with `findings`: boxes are mixed with typical places in the lungs
    familiar: int = 0  # of text-query only: axes in which the images of its calibration vary; 0: unknown

    def to_json(self) -> dict[str, Any]:
        """Return the config as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "GrounderConfig":
        """Return the config from `to_json`; raise MedgroundError naming an unknown, missing or bad key."""
        import msgspec

        if not isinstance(values, dict):
            raise MedgroundError("config.json: expected a JSON object; is this a grounding model?")
        if unknown := sorted(values.keys() - cls.__dataclass_fields__.keys()):
            raise MedgroundError(
                f"config.json: unknown key {unknown[0]!r}; was it written by a newer medground?"
            )
        if missing := sorted({"architecture", "image_encoder", "text_encoder"} - values.keys()):
            raise MedgroundError(
                f"config.json: the key {missing[0]!r} is missing; is this a grounding model?"
            )
        config_limits.check(values, "config.json")
        for name, allowed in CHOICES.items():
            if values.get(name, allowed[0]) not in allowed:
                raise MedgroundError(f"config.json: {name}: expected one of {', '.join(allowed)}")
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `$.")
            raise MedgroundError(
                f"config.json: {place.rstrip('`')}: {problem[:1].lower()}{problem[1:]}"
            ) from None


# Named sizes. "paper" has TransVG's shape as AGP trains it: 640 px, ResNet-50 at stride 32 (400 patches),
# 6 + 6 layers of width 256, FFN 2048 (Zhang et al., ISBI 2025).
SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "paper": {
        "image_size": 640,
        "text_tokens": 50,
        "width": 256,
        "heads": 8,
        "feed_forward": 2048,
        "visual_layers": 6,
        "fusion_layers": 6,
        "decoder_layers": 6,
        "dropout": 0.1,
    },
}
