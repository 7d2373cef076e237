"""Vision-language models that write boxes as text: a prompt with the phrase in, boxes out.

Each kind has a prompt, a parser of its text, and the frame of its numbers (`answers.frames`). Models that
chat get the prompt through the chat template of their processor. Text is generated without sampling.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from medground.answers import frames, texts
from medground.errors import BadRecord
from medground.grounding.adapters import sources
from medground.grounding.adapters.model import Found
from medground.grounding.adapters.sources import Source
from medground.records import Box

MAX_TOKENS = 256  # of a text: more than ten boxes
AS_JSON = (
    'Locate "{phrase}" in this chest X-ray. Output its bounding boxes as JSON: '
    '[{{"bbox_2d": [x1, y1, x2, y2], "label": "{phrase}"}}]. Output [] if it is not visible.'
)
AS_SHARES = (
    "Please provide the bounding box coordinates of the region this phrase describes: {phrase}. "
    "Answer with [x1, y1, x2, y2], as shares of the image from 0 to 1."
)


@dataclass(frozen=True)
class Kind:
    """The differences between models: the prompt, the parser, and the frame of its boxes.

    chats: the processor has a chat template. mark: the token that stands for the image in a plain prompt.
    encodes: the text is not continued but a new one (encoder and decoder).
    """

    prompt: str
    parse: texts.Parse
    frame: str
    chats: bool = True
    mark: str = ""
    encodes: bool = False


FLORENCE_2 = Kind(
    "<CAPTION_TO_PHRASE_GROUNDING>{phrase}", texts.florence_2, "stretch:1000x1000", chats=False, encodes=True
)
PALIGEMMA = Kind("detect {phrase}", texts.paligemma, "stretch:1024x1024", chats=False, mark="<image>")
QWEN_VL = Kind(AS_JSON, texts.qwen, "stretch:1000x1000")
LLAVA = Kind(AS_SHARES, texts.shares, "padded:1")
LLAVA_ONEVISION = Kind(AS_SHARES, texts.shares, "normalised")


class Generator:
    """A vision-language model on a device."""

    def __init__(self, source: Source, kind: Kind):
        self.source, library = source, sources.transformers()
        self.kind, self.device = kind, source.device
        self.network = source.network(library.AutoModelForImageTextToText)
        self.processor = processor_of(source)

    @torch.inference_mode()
    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return the boxes that the model writes for each phrase."""
        inputs = self.inputs(image, [self._prompt(each) for each in phrases])
        frame = self.frame(inputs)
        return [placed(self.kind.parse(text), frame, image) for text in self.texts(inputs)]

    def _prompt(self, phrase: str) -> str:
        return self.source.prompt_of(phrase) if self.source.prompt else self.kind.prompt.format(phrase=phrase)

    def inputs(self, image: Image.Image, prompts: list[str]) -> Any:
        """Return the input of the network for some prompts about one image."""
        if self.kind.chats:
            prompts = [self._chat(each) for each in prompts]
        padding = "right" if self.kind.encodes else "left"  # what is continued is at the end
        start = self.processor.tokenizer.bos_token
        made = self.processor(
            text=[self.kind.mark + each for each in prompts],
            images=[image] * len(prompts),
            padding=True,
            padding_side=padding,
            return_tensors="pt",
            add_special_tokens=not (start and prompts[0].startswith(start)),
        )
        return made.to(self.device, self.network.dtype)

    def _chat(self, prompt: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        turns = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(turns, add_generation_prompt=True))

    def frame(self, inputs: Mapping[str, Tensor]) -> str:
        """Return the frame of the boxes."""
        return self.kind.frame

    def texts(self, inputs: Any) -> list[str]:
        """Return the text that the model writes for each input, with its special tokens."""
        return generated(self.network, self.processor, inputs, self.kind.encodes)


class Qwen25VL(Generator):
    """Qwen2.5-VL, whose boxes are in pixels of the image as the processor resized it."""

    def __init__(self, source: Source):
        super().__init__(source, QWEN_VL)

    def frame(self, inputs: Mapping[str, Tensor]) -> str:
        """Return the frame of the resized image, which is a grid of patches."""
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        side = int(self.processor.image_processor.patch_size)
        return f"stretch:{columns * side}x{rows * side}"


class Maira2:
    """MAIRA-2, whose processor, which is code in its folder, makes the prompt around the phrase."""

    def __init__(self, source: Source):
        self.source, library = source, sources.transformers()
        self.network, self.device = source.network(library.AutoModelForCausalLM), source.device
        self.processor = source.load(library.AutoProcessor)

    @torch.inference_mode()
    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return the boxes that the model writes for each phrase, one after the other."""
        return [self._find(image, each) for each in phrases]

    def _find(self, image: Image.Image, phrase: str) -> Found:
        inputs = self.processor.format_and_preprocess_phrase_grounding_input(
            frontal_image=image, phrase=self.source.prompt_of(phrase), return_tensors="pt"
        ).to(self.device, self.network.dtype)
        [text] = generated(self.network, self.processor, inputs)
        return placed(texts.maira_2(text), "crop", image)


def florence_2(source: Source) -> Generator:
    """Return Florence-2."""
    return Generator(source, FLORENCE_2)


def paligemma(source: Source) -> Generator:
    """Return PaliGemma."""
    return Generator(source, PALIGEMMA)


def qwen_vl(source: Source) -> Generator:
    """Return Qwen2-VL or Qwen3-VL."""
    return Generator(source, QWEN_VL)


def llava(source: Source) -> Generator:
    """Return LLaVA, whose boxes are shares of the image padded to a square."""
    return Generator(source, LLAVA)


def llava_onevision(source: Source) -> Generator:
    """Return LLaVA-OneVision, such as RadVLM, whose boxes are shares of the image."""
    return Generator(source, LLAVA_ONEVISION)


def processor_of(source: Source) -> Any:
    """Return the processor of images and text; without torchvision, the part for videos is left out."""
    library = sources.transformers()
    kinds = library.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES
    kind = getattr(library, str(kinds.get(source.model_type, "AutoProcessor")))
    takes_videos = "video_processor" in inspect.signature(kind.__init__).parameters
    if library.utils.is_torchvision_available() or not takes_videos:
        return source.load(library.AutoProcessor)
    images, tokenizer = source.load(library.AutoImageProcessor), source.load(library.AutoTokenizer)
    return _images_only(kind)(images, tokenizer, None, chat_template=tokenizer.chat_template)


def _images_only(kind: Any) -> Any:
    """Return the class of processors that has no part for videos."""

    def check(self: Any, name: str, value: Any) -> Any:
        return None if name == "video_processor" else kind.check_argument_for_proper_class(self, name, value)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check, "__init__": kind.__init__})


def generated(network: Any, processor: Any, inputs: Any, encodes: bool = False) -> list[str]:
    """Return the text that follows each input, generated without sampling."""
    ids = network.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
    new = ids if encodes else ids[:, inputs["input_ids"].shape[1] :]
    decode: Callable[..., list[str]] = processor.tokenizer.batch_decode
    return decode(new, skip_special_tokens=False)


def placed(found: texts.Found, frame: str, image: Image.Image) -> Found:
    """Return the boxes of a text in pixels of the image; one beyond the frame counts as unreadable."""
    made: list[tuple[Box, float]] = []
    unreadable = found.unreadable
    for box in dict.fromkeys(found.boxes):  # models repeat themselves
        try:
            made.append((frames.to_original(found.frame or frame, box, image.width, image.height), 1.0))
        except BadRecord:
            unreadable += 1
    return Found(made, unreadable)
