"""The two encoders of a grounding model as folders that transformers loads in one line.

    AutoModel.from_pretrained("encoders/image-encoder")
    AutoModel.from_pretrained("encoders/text-encoder")

`preprocessor_config.json` has the image size, mean and standard deviation of the training. `medground.json`
states what it cannot: the image is windowed, letterboxed and, for small encoders, equalized first.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from medground import output_files
from medground.models import encoders
from medground.models.grounder import Grounder, save_tokenizer, write_json

IMAGE, TEXT, FACTS = "image-encoder", "text-encoder", "medground.json"
PREPROCESSING = "preprocessor_config.json"


def save(model: Grounder, folder: Path) -> None:
    """Write the encoders into the folder; an earlier export is kept until these are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(dir=folder, prefix="encoders.partial.")
    with output_files.naming(str(folder)), temporary as made:
        network, partial = model.network, Path(made)
        pictures = network.image_encoder
        plain = pictures.model if isinstance(pictures, encoders.PatchTokens) else pictures
        encoders.save_pretrained(plain, partial / IMAGE)
        write_json(partial / IMAGE / PREPROCESSING, preprocessing(model))
        encoders.save_pretrained(network.text_encoder, partial / TEXT)
        save_tokenizer(model.tokenizer, partial / TEXT)
        write_json(partial / FACTS, _facts(model))
        (folder / FACTS).unlink(missing_ok=True)  # an interrupted move leaves a folder without it
        for path in sorted(partial.rglob("*"), key=lambda each: each.name == FACTS):
            if path.is_file():
                target = folder / path.relative_to(partial)
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)


def preprocessing(model: Grounder) -> dict[str, Any]:
    """Return the preprocessing of the image encoder in the keys of transformers."""
    config = model.config
    channels: int = model.network.image_encoder.config.num_channels  # type: ignore[union-attr,assignment]
    values = list(encoders.gray_values(channels, config.grey))
    mean, deviation = (
        each * (channels // len(each)) for each in (values[: len(values) // 2], values[len(values) // 2 :])
    )
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": deviation,
        "rescale_factor": 1 / 255,
        "size": {"height": config.image_size, "width": config.image_size},
    }


def _facts(model: Grounder) -> dict[str, Any]:
    return {
        "model": model.name,
        "equalized": model.config.equalise,
        "letterboxed": True,
        "window": "1st to 99th percentile",
        "text_tokens": model.config.text_tokens,
    }
