"""Encoders as users have them, in folders that transformers saved: each kind loads, and what does not fit is
refused in one line."""

import json
import shutil

import pytest
import torch

from medground.compat_transformers import hide_broken_torchvision
from medground.errors import MedgroundError
from medground.models import encoders, grounder, pretrained

TEXTS = ["left lung", "small left pleural effusion, unchanged", "carina"]
PATCHES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
STAGES = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
IMAGES = {
    "resnet": STAGES | {"embedding_size": 8, "layer_type": "basic"},
    "convnext": STAGES,
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
    "vit": PATCHES | {"image_size": 64, "patch_size": 16},
    "dinov2": PATCHES | {"image_size": 56, "patch_size": 14},
}
BERT = PATCHES | {"model_type": "bert"}


def save(kind: str, config: dict, folder, *, head: str = "AutoModel"):
    """Save an untrained model, as its makers would, and return it."""
    hide_broken_torchvision()
    import transformers

    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(kind, **config)
    model = getattr(transformers, head).from_config(made)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def bert(tmp_path):
    """A folder with a BERT and its tokenizer."""
    words = encoders.build_tokenizer(TEXTS)
    save("bert", PATCHES | {"vocab_size": len(words)}, tmp_path / "bert")
    words.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.slow
@pytest.mark.parametrize("head", ["AutoModel", "AutoModelForImageClassification"])
@pytest.mark.parametrize("kind", IMAGES)
def test_a_backbone_of_each_kind_comes_with_its_weights(kind, head, tmp_path):
    saved = bare(kind, save(kind, IMAGES[kind], tmp_path, head=head))
    loaded = bare(kind, pretrained.load_image_encoder(str(tmp_path)))
    same = saved.keys() & loaded.keys()
    assert len(same) > len(loaded) * 0.9
    assert all(torch.equal(saved[name], loaded[name]) for name in same)


def bare(kind: str, model) -> dict:
    """Return the weights of a model by names without prefixes."""
    found = model.state_dict().items()
    return {name.removeprefix("model.").removeprefix(f"{kind}."): each for name, each in found}


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGES)
def test_a_model_with_it_predicts_and_is_loaded_from_its_folder(kind, tmp_path):
    save(kind, IMAGES[kind], tmp_path / "encoder")
    built = grounder.build("small", TEXTS, image_encoder=str(tmp_path / "encoder"))
    grounder.save(tmp_path / "model", built)
    side = built.config.image_size
    ids, mask = built.tokenize(TEXTS)
    inputs = (torch.rand(1, 1, side, side), torch.ones(1, 1, side, side), ids, mask)
    rows = (torch.zeros(3, dtype=torch.long), torch.arange(3))
    with torch.no_grad():
        before = built.network.eval()(*inputs, *rows)
        after = grounder.load(tmp_path / "model").network(*inputs, *rows)
    assert torch.equal(before.boxes, after.boxes)


def test_patches_cover_the_whole_square(tmp_path):
    """160 is no multiple of 14: eleven patches would not cover a strip of every image."""
    save("dinov2", IMAGES["dinov2"], tmp_path)
    built = grounder.build("small", TEXTS, image_encoder=str(tmp_path))
    assert built.config.image_size == 168


def test_patches_of_a_plain_transformer_lie_where_they_were(tmp_path):
    save("vit", IMAGES["vit"], tmp_path)
    encoder = pretrained.load_image_encoder(str(tmp_path)).eval()
    images = torch.zeros(1, 1, 64, 96)
    with torch.no_grad():
        even = encoders.feature_map(encoder, images)
        images[..., 17:30, 65:78] = 1  # in the second row and the fifth column
        changed = (encoders.feature_map(encoder, images) - even).square().sum(dim=1)[0]
    assert changed.shape == (4, 6)
    assert divmod(int(changed.argmax()), 6) == (1, 4)


def test_grey_values_are_those_that_a_backbone_was_trained_on(tmp_path):
    save("vit", IMAGES["vit"], tmp_path)
    assert pretrained.grey_of(str(tmp_path)) is None
    said = {
        "image_processor_type": "ViTImageProcessor",
        "image_mean": [0.2, 0.3, 0.4],
        "image_std": [0.1] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    built = grounder.build("small", TEXTS, image_encoder=str(tmp_path))
    assert built.config.grey == [0.3, 0.1]
    seen = []
    built.network.image_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    image = torch.rand(1, 1, 160, 160)
    built.network.encode_images(image, torch.ones_like(image))
    assert torch.allclose(seen[0], ((image - 0.3) / 0.1).expand(-1, 3, -1, -1))


@pytest.mark.slow
def test_a_roberta_reads_with_its_own_tokenizer(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    save("roberta", PATCHES | {"vocab_size": 300, "max_position_embeddings": 70}, tmp_path)
    pieces = ByteLevelBPETokenizer()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1, special_tokens=marks)
    pieces.save_model(str(tmp_path))
    built = grounder.build("small", [], text_encoder=str(tmp_path))
    ids, mask = built.tokenize(["left lung " * 60])
    assert built.network.encode_texts(ids, mask).isfinite().all()
    grounder.save(tmp_path / "model", built)
    assert torch.equal(grounder.load(tmp_path / "model").tokenize(TEXTS)[0], built.tokenize(TEXTS)[0])


@pytest.mark.slow
def test_a_bert_with_code_of_its_own_is_read_as_the_bert_that_it_is(bert, tmp_path):
    """CXR-BERT-specialized: another model type, classes in files of the model, which are never run."""
    words = encoders.build_tokenizer(TEXTS).get_vocab()
    pieces = [*sorted(words, key=words.get), "[MASK]"]
    folder = tmp_path / "cxr"
    model = save("bert", PATCHES | {"vocab_size": len(pieces)}, folder, head="AutoModelForMaskedLM")
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "cxr-bert", "auto_map": code}))
    own = {"tokenizer_class": "CXRBertTokenizer", "auto_map": {"AutoTokenizer": ["own.Words", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    (folder / "own.py").write_text("raise SystemExit('code of a stranger')")
    encoder, tokenizer = pretrained.load_text_encoder(str(folder))
    assert torch.equal(encoder.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert tokenizer.tokenize("left lung") == ["left", "lung"]
    built = grounder.build("small", [], text_encoder=str(folder))
    grounder.save(tmp_path / "model", built)
    assert grounder.load(tmp_path / "model").config.text_encoder["model_type"] == "bert"


def refusal(folder, load=pretrained.load_text_encoder) -> str:
    with pytest.raises(MedgroundError) as refused:
        load(str(folder))
    return str(refused.value).removeprefix(f"{folder}: ")


def test_an_encoder_that_is_not_there_is_one_line(tmp_path):
    assert refusal(tmp_path) == "no text encoder there that transformers can load"
    assert refusal(tmp_path, pretrained.load_image_encoder).startswith("no image encoder there")


def test_a_text_encoder_without_its_tokenizer_is_refused(bert):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).unlink(missing_ok=True)
    assert refusal(bert).startswith("no tokenizer")


def test_a_tokenizer_of_another_vocabulary_is_refused(bert):
    encoders.build_tokenizer([*TEXTS, "many further words"]).save_pretrained(bert)
    assert "they are of different models" in refusal(bert)


def test_a_model_folder_with_another_tokenizer_is_refused(tmp_path):
    grounder.save(tmp_path, grounder.build("small", TEXTS))
    encoders.build_tokenizer([*TEXTS, "many further words"]).save_pretrained(tmp_path)
    assert "they are of different models" in refusal(tmp_path, lambda name: grounder.load(tmp_path))


def test_weights_of_another_architecture_are_refused(bert, tmp_path):
    save("resnet", IMAGES["resnet"], tmp_path / "resnet")
    shutil.copy(tmp_path / "resnet" / "model.safetensors", bert)
    assert "another architecture" in refusal(bert)


@pytest.mark.parametrize("kind", ["resnet", "convnext", "vit"])
def test_a_backbone_without_its_norms_is_refused_with_their_names(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    save(kind, IMAGES[kind], tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    lacking = {name: each for name, each in whole.items() if "norm" not in name}
    assert len(lacking) < len(whole)
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    said = refusal(tmp_path, pretrained.load_image_encoder)
    assert "incomplete; missing: " in said
    assert "norm" in said


def test_a_text_encoder_may_lack_only_its_pooler(bert):
    from safetensors.torch import load_file, save_file

    whole = load_file(bert / "model.safetensors")
    lacking = {name: each for name, each in whole.items() if "pooler" not in name}
    save_file(lacking, bert / "model.safetensors", metadata={"format": "pt"})
    pretrained.load_text_encoder(str(bert))
    lacking.pop("encoder.layer.0.output.LayerNorm.weight")
    save_file(lacking, bert / "model.safetensors", metadata={"format": "pt"})
    assert "missing: encoder.layer.0.output.LayerNorm.weight" in refusal(bert)


def test_weights_of_another_width_are_refused(bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    assert refusal(bert) == "its weights do not fit its config.json"


def test_a_truncated_file_is_refused(bert):
    whole = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert refusal(bert) == "its weights are damaged or truncated"


def test_a_pickle_is_refused_and_the_way_out_named(bert):
    (bert / "model.safetensors").unlink()
    torch.save({}, bert / "pytorch_model.bin")
    assert "pickles are not read" in refusal(bert)


def test_a_text_encoder_is_no_image_encoder(bert):
    with pytest.raises(MedgroundError, match="bert is not an image encoder"):
        pretrained.load_image_encoder(str(bert))
