"""Tiny, untrained models of other makers, with their processors, as transformers saves them in a folder."""

import json
from pathlib import Path

import torch


def _transformers():
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _save(folder: Path, model, *parts) -> Path:
    model.save_pretrained(folder)
    for each in parts:
        each.save_pretrained(folder)
    return folder


def _bert_words(folder: Path) -> Path:
    """Write a vocabulary in which [CLS], [SEP], "." and "?" have the numbers that Grounding DINO expects."""
    words = [f"[unused{n}]" for n in range(1040)]
    words[0], words[100], words[101], words[102], words[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    words[1012], words[1029] = ".", "?"
    free = iter(n for n in range(1, 100))
    for letter in "abcdefghijklmnopqrstuvwxyz":
        words[next(free)] = letter
        words[next(free)] = f"##{letter}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder / "vocab.txt"


def grounding_dino(folder: Path) -> Path:
    """Write a Grounding DINO with a Swin backbone."""
    t = _transformers()
    torch.manual_seed(0)
    config = t.GroundingDinoConfig(
        backbone_config=t.SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=t.BertConfig(
            vocab_size=1040, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=9, num_feature_levels=4, max_text_len=32,
    )  # fmt: skip
    tokenizer = t.BertTokenizer(vocab=str(_bert_words(folder)))
    images = t.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    processor = t.GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer)
    return _save(folder, t.GroundingDinoForObjectDetection(config), processor)


def _bytes_tokenizer(kind, special: list[str], end: str, **more):
    """Return a tokenizer with a piece for each byte; `special` follow, and `end` is the last one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {each: n for n, each in enumerate(dict.fromkeys([*words, *special, end]))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=None))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    from tokenizers.processors import TemplateProcessing

    inner.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, vocabulary[end])])
    return kind(tokenizer_object=inner, eos_token=end, **more)


def owlv2(folder: Path) -> Path:
    """Write an OWLv2."""
    t = _transformers()
    torch.manual_seed(0)
    tokenizer = _bytes_tokenizer(t.PreTrainedTokenizerFast, ["<pad>"], "<end>", pad_token="<pad>")
    tower = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    text = tower | {"vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = t.Owlv2Config(
        text_config=text, vision_config=tower | {"image_size": 48, "patch_size": 8}, projection_dim=16
    )
    images = t.Owlv2ImageProcessorPil(size={"height": 48, "width": 48})
    processor = t.Owlv2Processor(image_processor=images, tokenizer=tokenizer)
    model = t.Owlv2ForObjectDetection(config)
    with torch.no_grad():
        model.box_head.dense2.weight *= 0.01  # boxes stay near their patches, and have an area
    return _save(folder, model, processor)


CHAT = (
    "{% for turn in messages %}{% for part in turn['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}: "
)
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def florence_2(folder: Path) -> Path:
    """Write a Florence-2."""
    t = _transformers()
    torch.manual_seed(0)
    special = ["<s>", "<pad>", "<image>", *(f"<loc_{n}>" for n in range(1000))]
    tokenizer = _bytes_tokenizer(
        t.PreTrainedTokenizerFast, special, "</s>", pad_token="<pad>", bos_token="<s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    numbers = {
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None, "forced_bos_token_id": None,
    }  # fmt: skip
    text = numbers | {
        "vocab_size": len(tokenizer), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16, "max_position_embeddings": 512,
    }  # fmt: skip
    vision = {
        "embed_dim": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1],
        "num_groups": [1, 1, 1, 1], "projection_dim": 16, "window_size": 2, "max_temporal_embeddings": 4,
    }  # fmt: skip
    config = t.Florence2Config(
        text_config=text, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        is_encoder_decoder=True, **numbers,
    )  # fmt: skip
    images = t.CLIPImageProcessorPil(
        size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}, do_center_crop=False
    )
    images.image_seq_length = 5
    processor = t.Florence2Processor(image_processor=images, tokenizer=tokenizer)
    return _save(folder, t.Florence2ForConditionalGeneration(config), processor)


def paligemma(folder: Path) -> Path:
    """Write a PaliGemma."""
    t = _transformers()
    torch.manual_seed(0)
    special = ["<pad>", "<bos>", "<image>", *(f"<loc{n:04}>" for n in range(1024))]
    special += [f"<seg{n:03}>" for n in range(128)]
    tokenizer = _bytes_tokenizer(
        t.PreTrainedTokenizerFast, special, "<eos>", pad_token="<pad>", bos_token="<bos>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = t.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = t.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)
    numbers = {
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    text = SMALL | numbers | {
        "model_type": "gemma", "vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip
    config = t.PaliGemmaConfig(
        text_config=text, vision_config=SMALL | {"image_size": 32, "patch_size": 8, "projection_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=16, hidden_size=16,
        **numbers,
    )  # fmt: skip
    return _save(folder, t.PaliGemmaForConditionalGeneration(config), processor)


def qwen2_5_vl(folder: Path) -> Path:
    """Write a Qwen2.5-VL."""
    t = _transformers()
    torch.manual_seed(0)
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<pad>"]
    tokenizer = _bytes_tokenizer(
        t.PreTrainedTokenizerFast, names, "<|im_end|>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )  # fmt: skip
    tokens = {each: tokenizer.convert_tokens_to_ids(each) for each in names}
    images = t.Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    )
    template = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer.chat_template = template  # no processor: its part for videos needs torchvision
    text = SMALL | {
        "vocab_size": len(tokenizer), "num_key_value_heads": 1, "max_position_embeddings": 1024,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = t.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"], vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
    )  # fmt: skip
    return _save(folder, t.Qwen2_5_VLForConditionalGeneration(config), images, tokenizer)


def llava(folder: Path) -> Path:
    """Write a LLaVA."""
    t = _transformers()
    torch.manual_seed(0)
    tokenizer = _bytes_tokenizer(
        t.PreTrainedTokenizerFast, ["<pad>", "<image>"], "</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = t.LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=8, num_additional_image_tokens=1,
        vision_feature_select_strategy="default", chat_template=CHAT.replace("IMAGE", "<image>"),
    )  # fmt: skip
    text = SMALL | {
        "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = SMALL | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8}
    config = t.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )  # fmt: skip
    return _save(folder, t.LlavaForConditionalGeneration(config), processor)


def clip(folder: Path) -> Path:
    """Write a CLIP."""
    t = _transformers()
    torch.manual_seed(0)
    tokenizer = _bytes_tokenizer(t.PreTrainedTokenizerFast, ["<pad>"], "<end>", pad_token="<pad>")
    text = SMALL | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = SMALL | {"image_size": 48, "patch_size": 8}
    config = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    images = t.CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    return _save(folder, t.CLIPModel(config), images, tokenizer)


MAIRA_2_CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_fast import PreTrainedTokenizerFast


class Config(PretrainedConfig):
    model_type = "maira2"


class Model(PreTrainedModel):
    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def generate(self, input_ids, pixel_values, max_new_tokens, do_sample, num_beams):
        words = torch.tensor([list(b"<obj>spot<box><x10><y20><x30><y40></box></obj>")])
        return torch.cat([input_ids, words], 1)


class Decoder:
    def batch_decode(self, ids, skip_special_tokens):
        return [bytes(each.tolist()).decode() for each in ids]


class Processor:
    tokenizer = Decoder()

    @classmethod
    def from_pretrained(cls, folder, **how):
        return cls()

    @classmethod
    def register_for_auto_class(cls, name=None):
        pass

    def format_and_preprocess_phrase_grounding_input(self, frontal_image, phrase, return_tensors):
        from transformers import BatchFeature

        assert frontal_image.mode == "RGB" and return_tensors == "pt"
        ids = torch.tensor([list(phrase.encode())])
        return BatchFeature({"input_ids": ids, "pixel_values": torch.zeros(1, 3, 8, 8)})
"""


def maira_2(folder: Path) -> Path:
    """Write a substitute for MAIRA-2: code of its own, whose model writes the same box for every phrase."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "maira.py").write_text(MAIRA_2_CODE)
    kinds = {"AutoConfig": "Config", "AutoModelForCausalLM": "Model", "AutoProcessor": "Processor"}
    own = {kind: f"maira.{name}" for kind, name in kinds.items()}
    (folder / "config.json").write_text(json.dumps({"model_type": "maira2", "auto_map": own}))
    (folder / "processor_config.json").write_text(json.dumps({"auto_map": own}))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    return folder


MODELS = {
    "grounding-dino": grounding_dino,
    "owlv2": owlv2,
    "florence-2": florence_2,
    "paligemma": paligemma,
    "qwen2.5-vl": qwen2_5_vl,
    "llava": llava,
    "clip": clip,
}
