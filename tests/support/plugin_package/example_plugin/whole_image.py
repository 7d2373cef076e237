"""An adapter of a model: the upper share of the image that its config states, for each phrase."""

from PIL import Image

from medground.grounding.adapters.model import Found
from medground.grounding.adapters.sources import Source


class WholeImage:
    def __init__(self, source: Source):
        self.share = source.config["share"]

    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        box = (0.0, 0.0, float(image.width), image.height * self.share)
        return [Found([(box, 0.75)]) for _ in phrases]
