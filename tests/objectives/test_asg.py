"""ASG's losses, each compared with a slow, obvious reference, and its tags."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_names import ASG as PUBLISHED
from published_names import names
from torch.nn import functional

from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import EncodedImages
from medground.objectives import asg, heads, tags
from medground.objectives.learner import Learner
from medground.objectives.objective import Encoded
from medground.objectives.report_batch import ReportBatch, lines, means, sizes, text_means, words_of
from medground.records import Triplet

TENSORS = ReportBatch.__dataclass_fields__.keys() - {"indices"}
BLANK = ReportBatch(**{name: torch.zeros(0, dtype=torch.long) for name in TENSORS})


def triplet(finding: str, existence: str = "present") -> Triplet:
    return Triplet(
        region=None, finding=finding, existence=existence, finding_span=(0, 1), region_span=None, cue=None,
        cue_span=None, region_source="none", rule="test",
    )  # fmt: skip


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def slow_cross_entropy(logits: list[float], own: int) -> float:
    return math.log(sum(math.exp(each) for each in logits)) - logits[own]


def slow_contrast(similar: torch.Tensor) -> float:
    """Row plus column cross-entropy of a square, the mean over its rows."""
    table = similar.tolist()
    each = [
        slow_cross_entropy(table[n], n) + slow_cross_entropy([row[n] for row in table], n)
        for n in range(len(table))
    ]
    return sum(each) / len(each)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_image_report_alignment_against_a_slow_reference(count):
    similar = torch.randn(count, count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    assert heads.contrast(similar).item() == pytest.approx(slow_contrast(similar), abs=1e-9)


def test_similarity_is_the_cosine_over_the_temperature():
    left, right = torch.tensor([[3.0, 4.0]]), torch.tensor([[8.0, 6.0], [-3.0, -4.0]])
    assert torch.allclose(heads.similarity(left, right, 0.07), torch.tensor([[0.96, -1.0]]) / 0.07)


@given(images=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_region_sentence_alignment_is_each_images_own_contrast(images, seed):
    count = len(images)
    similar = torch.randn(count, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cost = 0.0
    for image in set(images):
        own = [n for n in range(count) if images[n] == image]
        cost += slow_contrast(similar[own][:, own]) * len(own)
    found = asg.within_images(similar, torch.tensor(images))
    assert found.item() == pytest.approx(cost / count, abs=1e-9)


def test_the_only_pair_of_an_image_has_no_loss():
    assert asg.within_images(torch.randn(3, 3), rows(0, 1, 2)).item() == pytest.approx(0, abs=1e-6)


def reports_of(images, boxes, texts) -> ReportBatch:
    """Return a ReportBatch of these pairs; equal numbers in `boxes` are equal boxes."""
    corners = torch.tensor(boxes, dtype=torch.float)[:, None].expand(-1, 4)
    return replace(BLANK, pair_images=rows(*images), pair_boxes=corners, pair_texts=rows(*texts), keys=None)


def test_pairs_about_equal_boxes_or_with_equal_texts_are_one_target():
    reports = reports_of(images=[0, 0, 0, 0, 1], boxes=[1, 1, 2, 3, 1], texts=[0, 1, 1, 2, 0])
    alike = asg.pairs_alike(reports).int().tolist()
    assert alike == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


def test_a_box_with_two_sentences_has_no_loss_when_both_are_found():
    reports = reports_of(images=[0, 0, 0], boxes=[1, 1, 2], texts=[0, 1, 2])
    found = 40.0 * torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert asg.within_images(found, reports.pair_images, asg.pairs_alike(reports)).item() < 1e-6
    assert asg.within_images(found, reports.pair_images).item() == pytest.approx(
        4 / 3 * math.log(2), abs=1e-4
    )


def test_equal_reports_are_one_target_of_contrast_and_relation():
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert heads.contrast(40.0 * same, same).item() < 1e-6
    labels = torch.zeros(3, 40)
    labels[0, 1] = labels[1, 1] = labels[2, 2] = 1
    best = torch.where(same, torch.where(same.sum(1) > 1, 0.5, 1.0)[:, None], 1e-6).log()
    assert asg.relation_loss(best, labels, same).item() < 0.01 < asg.relation_loss(best, labels).item()


def test_reports_with_the_same_sentences_share_a_key():
    reports = replace(BLANK, keys=rows(7, 8, 7, 7), has_report=torch.tensor([True, True, True, False]))
    assert reports.same(rows(0, 1, 2)).int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


@pytest.mark.slow
def test_region_sentence_alignment_overfits_eight_images_with_repeated_boxes():
    """Only the heads learn, on fixed features; two sentences of each image are about the same two regions."""
    torch.manual_seed(0)
    model = grounder.build("small", [f"word{n}" for n in range(16)])
    objective = asg.ASG(model)
    objective.patch, objective.word = heads.Projection(128, 128, 64), heads.Projection(128, 128, 64)
    ids, mask = model.tokenize([f"word{n} word{(n * 3 + 1) % 16}" for n in range(16)])
    grid = torch.randn(8, 128, 4, 4)
    images = EncodedImages(grid.flatten(2).transpose(1, 2), torch.ones(8, 16, dtype=torch.bool), grid)
    with torch.no_grad():
        seen = Encoded(images, model.network.encode_texts(ids, mask), mask, None)
    owner = torch.arange(8).repeat_interleave(4)
    reports = replace(
        BLANK, pair_images=owner, pair_texts=(torch.arange(32) * 5) % 16,
        pair_boxes=torch.tensor([[0.3, 0.3, 0.4, 0.4], [0.7, 0.6, 0.5, 0.5]] * 2).repeat(8, 1), keys=None,
        has_report=torch.ones(8, dtype=torch.bool),
    )  # fmt: skip
    heads_of = [*objective.patch.parameters(), *objective.word.parameters()]
    optimizer = torch.optim.AdamW(heads_of, lr=1e-3)
    alike = asg.pairs_alike(reports)
    for _ in range(60):
        optimizer.zero_grad()
        similar = heads.similarity(*objective.parts(seen, reports), asg.TEMPERATURE)
        loss = asg.within_images(similar, owner, alike)
        loss.backward()
        optimizer.step()
    own = similar.masked_fill(owner[:, None] != owner, -torch.inf)
    assert loss.item() < 0.01
    assert alike[torch.arange(32), own.argmax(dim=1)].float().mean().item() == 1.0


def test_no_pair_and_no_report_cost_nothing_and_not_nan():
    nothing = torch.zeros(0, 0, requires_grad=True)
    assert asg.within_images(nothing, rows()).item() == 0
    assert heads.contrast(nothing).item() == asg.relation_loss(nothing, torch.zeros(0, 40)).item() == 0
    assert asg.recognition_loss(torch.zeros(0, 40), torch.zeros(0, 40)).item() == 0


@pytest.mark.parametrize("seed", range(3))
def test_soft_targets_against_a_slow_reference(seed):
    generator = torch.Generator().manual_seed(seed)
    similar = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    labels = (torch.rand(4, 40, generator=generator, dtype=torch.float64) > 0.8).double()
    labels[0], labels[1, 3] = 0, -1  # an image without a tag, and a doubt
    total = 0.0
    for table in (similar, similar.T):
        for i in range(4):
            target = []
            for j in range(4):
                a, b = labels[i].clamp(min=0), labels[j].clamp(min=0)
                norm = (a.norm() * b.norm()).item()
                cos = (a @ b).item() / norm if norm else 0.0
                target.append(0.8 * (i == j) + 0.2 * cos + 1e-6)
            q = [each / sum(target) for each in target]
            p = [math.exp(each) for each in table[i].tolist()]
            p = [each / sum(p) for each in p]
            there = sum(x * math.log(x / y) for x, y in zip(q, p, strict=True))
            back = sum(y * math.log(y / x) for x, y in zip(q, p, strict=True))
            total += (there + back) / 2
    assert asg.relation_loss(similar, labels).item() == pytest.approx(total / 8, abs=1e-9)


def test_tags_in_doubt_are_left_out():
    logits, labels = torch.randn(3, 40), torch.zeros(3, 40)
    labels[0, 1], labels[2, 5] = 1, -1
    cost = [
        -math.log(torch.sigmoid(logit if label else -logit).item())
        for logit, label in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)
        for logit in [torch.tensor(logit)]
        if label >= 0
    ]
    assert len(cost) == 119
    assert asg.recognition_loss(logits, labels).item() == pytest.approx(sum(cost) / 119, rel=1e-5)


def slow_roi(patches: torch.Tensor, box: list[float], samples: int) -> torch.Tensor:
    """The mean of bilinear readings at every point, one after another."""
    depth, height, width = patches.shape
    total = torch.zeros(depth, dtype=patches.dtype)
    cx, cy, w, h = box
    for j in range(samples):
        for i in range(samples):
            x = (cx - w / 2 + w * (i + 0.5) / samples) * width - 0.5
            y = (cy - h / 2 + h * (j + 0.5) / samples) * height - 0.5
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                share = (dx * (x - x0) + (1 - dx) * (x0 + 1 - x)) * (dy * (y - y0) + (1 - dy) * (y0 + 1 - y))
                total += share * patches[:, y0 + dy, x0 + dx]
    return total / samples**2


@given(
    box=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.01, 1), st.floats(0.01, 1)),
    samples=st.integers(1, 5),
)
@settings(deadline=None, max_examples=50)
def test_the_feature_of_a_box_against_a_slow_reference(box, samples):
    patches = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = heads.roi_align(patches, torch.tensor([box, box], dtype=torch.float64), rows(1, 0), samples)
    assert torch.allclose(found[0], slow_roi(patches[1], list(box), samples), atol=1e-9)
    assert torch.allclose(found[1], slow_roi(patches[0], list(box), samples), atol=1e-9)


def test_the_feature_of_a_box_is_torchs_own_reading_of_the_map():
    patches, points = torch.randn(1, 2, 6, 6), (torch.arange(4) + 0.5) / 4
    grid = torch.stack(torch.meshgrid(0.2 + 0.5 * points, 0.3 + 0.4 * points, indexing="xy"), dim=-1)
    read = functional.grid_sample(patches, grid[None] * 2 - 1, align_corners=False, padding_mode="border")
    found = heads.roi_align(patches, torch.tensor([[0.45, 0.5, 0.5, 0.4]]), rows(0), 4)
    assert torch.allclose(found[0], read[0].mean(dim=(1, 2)), atol=1e-6)


def test_a_box_never_reads_another_image():
    patches = torch.stack([torch.zeros(2, 4, 4), torch.ones(2, 4, 4)])
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).expand(3, 4)
    assert heads.roi_align(patches, boxes, rows(1, 0, 1))[:, 0].tolist() == pytest.approx([1, 0, 1])
    assert heads.roi_align(patches, boxes[:0], rows()).shape == (0, 2)


def test_a_projection_is_the_published_stack_and_takes_any_number_of_rows():
    torch.manual_seed(0)
    head, given = heads.Projection(6, 8, 4), torch.randn(5, 6)
    torch.nn.init.normal_(head.scale)
    hidden = functional.batch_norm(given @ head.enter.weight.T, None, None, head.scale, head.shift, True)
    wanted = functional.batch_norm(hidden.relu() @ head.leave.weight.T, None, None, training=True)
    assert torch.allclose(head(given), wanted, atol=1e-5)
    for count in (0, 1):
        assert head(given[:count]).shape == (count, 4)
    head.eval()
    assert torch.allclose(head(given)[:1], head(given[:1]), atol=1e-5)


def test_the_norm_remembers_as_torchs_does():
    torch.manual_seed(0)
    ours, torchs = heads.RowNorm(3), torch.nn.BatchNorm1d(3, affine=False)
    for _ in range(3):
        given = torch.randn(6, 3) * 2 + 1
        assert torch.allclose(ours(given), torchs(given), atol=1e-5)
    assert torch.allclose(ours.running_mean, torchs.running_mean)
    assert torch.allclose(ours.running_var, torchs.running_var)


def test_a_report_is_the_mean_of_all_words_of_its_sentences():
    tokens = torch.arange(3 * 4 * 1.0).reshape(3, 4, 1)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    found = means(*words_of(tokens, mask, rows(0, 2, 2), rows(0, 0, 2)), count=3)
    assert found[:, 0].tolist() == pytest.approx([(0 + 1 + 8 + 9 + 10) / 5, 0, (8 + 9 + 10) / 3])


def test_means_of_texts_are_those_of_their_words():
    torch.manual_seed(0)
    tokens, mask = torch.randn(3, 5, 4), torch.rand(3, 5) > 0.4
    tokens[0, ~mask[0]] = torch.nan  # padding does not count
    texts, owners = rows(0, 2, 2, 1), rows(1, 1, 3, 0)
    slow = means(*words_of(tokens, mask, texts, owners), count=5)
    assert torch.allclose(text_means(tokens, mask, texts, owners, 5), slow, atol=1e-6)


def test_means_of_long_reports_are_exact_in_half_precision():
    tokens, mask, owners = torch.ones(2, 300, 4).bfloat16(), torch.ones(2, 300).bool(), rows(0, 0)
    assert torch.equal(text_means(tokens, mask, rows(0, 1), owners, 1), torch.ones(1, 4).bfloat16())
    words = means(tokens.flatten(0, 1), rows(*[0] * 600), 1)
    assert torch.equal(words, torch.ones(1, 4).bfloat16())


def test_boxes_sorted_by_image_have_the_same_features():
    patches, boxes, images = torch.randn(4, 3, 5, 5), torch.rand(5, 4), rows(0, 0, 2, 3, 3)
    number = sizes(images, 4)
    assert number == (2, 0, 1, 2) and sizes(rows(1, 0), 2) is None
    found = heads.roi_align(patches, boxes, images, sizes=number)
    assert torch.allclose(found, heads.roi_align(patches, boxes, images), atol=1e-6)


def test_the_tokens_of_a_report_stand_in_order_and_open_once():
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    reports = replace(BLANK, sentences=rows(2, 0, 1), report_of=rows(0, 0, 2), has_report=torch.ones(3))
    at, places, valid = lines(mask, reports, 5)
    assert valid.sum(dim=1).tolist() == [5, 0, 2]  # 4 + 2 cut at 5; none; 2
    assert list(zip(at[0].tolist(), places[0].tolist(), strict=True)) == [
        (2, 0),
        (2, 1),
        (2, 2),
        (2, 3),
        (0, 1),
    ]
    assert list(zip(at[2].tolist(), places[2].tolist(), strict=True))[:2] == [(1, 0), (1, 1)]
    assert lines(mask, replace(reports, sentences=rows(), report_of=rows()), 5)[2].shape == (3, 0)


def test_the_tags_are_the_published_forty():
    assert len(tags.NAMES) == 40
    assert set(tags.NAMES) == names(PUBLISHED)
    assert set(tags.TAG_OF.values()) <= set(tags.NAMES)


def test_every_tag_can_be_given():
    assert set(tags.TAG_OF.values()) | set(tags._WORDS) == set(tags.NAMES)


@pytest.mark.parametrize(
    ("text", "triplets", "wanted"),
    [
        ("Small effusion.", [triplet("pleural effusion")], {"pleural effusion": 1}),
        ("No effusion.", [triplet("pleural effusion", "absent")], {"pleural effusion": 0}),
        ("Possible edema.", [triplet("pulmonary edema/hazy opacity", "uncertain")], {"edema": -1}),
        ("A 3 cm mass.", [triplet("mass/nodule (not otherwise specified)")], {"mass": 1, "nodule": 1}),
        ("No mass.", [triplet("mass/nodule (not otherwise specified)", "absent")], {"mass": 0}),
        ("Massive effusion.", [triplet("pleural effusion")], {"pleural effusion": 1}),
        ("The costophrenic angle is obscured.", [triplet("lung opacity")], {"obscure": 1, "opacity": 1}),
        ("The chest is obscured.", [], {}),
        ("A finding of the user's own.", [triplet("flux capacitor")], {}),
    ],
)
def test_a_sentence_gives_the_tags_of_its_findings(text, triplets, wanted):
    known: dict = {}
    tags.merge(tags.mentioned(text, triplets), known)
    labels = dict(zip(tags.NAMES, tags.labels(tags.NAMES, known), strict=True))
    assert {name: label for name, label in labels.items() if label} == {k: v for k, v in wanted.items() if v}


def test_what_is_present_outweighs_doubt_and_denial():
    known: dict = {}
    for existence in ("absent", "uncertain", "present", "absent"):
        tags.merge([("edema", existence)], known)
    assert known == {"edema": "present"}
    assert tags.labels(["edema", "scar"], known) == [1, 0]


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    return Learner(grounder.build("small", ["small left effusion", "clear lungs"]), ["asg"])


def encoded(model: grounder.Grounder, count: int) -> tuple[Encoded, torch.Tensor]:
    ids, mask = model.tokenize(["small left effusion", "clear lungs"])
    grid = torch.randn(count, 128, 10, 10)
    images = EncodedImages(grid.flatten(2).transpose(1, 2), torch.ones(count, 100, dtype=torch.bool), grid)
    return Encoded(images, model.network.encode_texts(ids, mask), mask, None), ids


def test_the_pieces_of_a_word_are_summed():
    tokens = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    continues = torch.tensor([[0, 0, 1, 0], [0, 1, 1, 0]], dtype=torch.bool)
    sums, kept = heads.whole_words(tokens, mask, continues)
    assert kept.int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert (sums[..., 0] * kept).tolist() == [[0, 1 + 2, 3, 0], [4 + 5 + 6, 0, 0, 0]]


def test_tokens_that_continue_a_word_are_those_with_a_mark():
    model = grounder.build("small", ["clear lungs"], sum_word_pieces=True)
    pieces = asg.ASG(model).pieces
    assert pieces[model.tokenizer.convert_tokens_to_ids("##a")]
    assert not pieces[model.tokenizer.convert_tokens_to_ids("a")]


def test_the_names_of_tags_are_frozen_and_differ(learner):
    recogniser = learner.objectives["asg"].recogniser
    assert recogniser.names.shape == (40, 128)
    assert "names" not in dict(recogniser.named_parameters())
    assert torch.pdist(recogniser.names).min() > 1e-3


def three_reports() -> ReportBatch:
    """Return the reports of three images, the last without one."""
    return ReportBatch(
        sentences=rows(0, 1, 1), report_of=rows(0, 0, 1), pair_texts=rows(0, 1, 1), pair_images=rows(0, 0, 1),
        pair_boxes=torch.rand(3, 4), regions=rows(), region_images=rows(), region_boxes=torch.zeros(0, 4),
        tags=torch.zeros(3, 40), findings=torch.zeros(3, 1), has_report=torch.tensor([True, True, False]),
        always=rows(),
    )  # fmt: skip


def test_images_without_a_report_change_no_loss(learner):
    torch.manual_seed(1)
    objective = learner.objectives["asg"].eval()
    model = grounder.build("small", ["small left effusion", "clear lungs"])
    seen, _ = encoded(model, 3)
    reports = three_reports()
    whole = objective(seen, SimpleNamespace(reports=reports))
    fewer = replace(
        reports, tags=reports.tags[:2], findings=reports.findings[:2], has_report=reports.has_report[:2]
    )
    first = EncodedImages(*(part[:2] for part in seen.images))
    part = objective(Encoded(first, seen.tokens, seen.mask, None), SimpleNamespace(reports=fewer))
    assert whole.keys() == {"ira", "arsa", "irl", "erl"}
    for name, loss in whole.items():
        assert loss.item() == pytest.approx(part[name].item(), rel=1e-4), name


def test_published_weights_are_the_defaults(learner):
    assert learner.weights(0.5) == {"ira": 1, "arsa": 1, "irl": 5, "erl": 1}


def test_two_objectives_with_a_loss_of_the_same_name_are_refused():
    torch.manual_seed(0)
    model = grounder.build("small", ["clear lungs"])
    with pytest.raises(MedgroundError, match="give one of them"):
        Learner(model, ["gk-mvlp", "gk-mvlp-unmasked"])


def test_the_published_query_of_a_tag_is_the_first_token_of_its_name():
    model = grounder.build("small", ["pleural effusion", "opacity"])
    ids, mask = model.tokenize(["pleural effusion"])
    with torch.no_grad():
        encoder = model.network.text_encoder.eval()
        hidden = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    first, mean = (asg.name_features(model, ["pleural effusion"], kind) for kind in (True, False))
    assert torch.allclose(first, hidden[:, 0]) and not torch.allclose(first, mean)
    published = Learner(model, ["asg-cls"]).objectives["asg-cls"].recogniser
    assert torch.allclose(published.names, asg.name_features(model, list(tags.NAMES), True))
    assert len(published.decoder.layers) == 4
    assert published(encoded(model, 3)[0].images).shape == (3, 40)


def test_a_tag_reads_what_differs_between_images_at_each_place():
    """The anatomy of a place, equal in all images, changes nothing, in contrast to the published decoder."""
    torch.manual_seed(2)
    model = grounder.build("small", ["small left effusion", "clear lungs"])
    images = encoded(model, 4)[0].images
    shifted = images._replace(patches=images.patches + 5 * torch.randn(1, 100, 128))
    own, published = (kind(model) for kind in (asg.Recogniser, asg.PublishedRecogniser))
    for part in (own, published):
        part.decoder.eval()  # no dropout; the norm of the patches uses the batch
    assert torch.allclose(own(images), own(shifted), atol=1e-4)
    assert not torch.allclose(published(images), published(shifted), atol=1e-2)


def test_a_loss_with_weight_0_is_not_computed(learner, monkeypatch):
    torch.manual_seed(1)
    model = grounder.build("small", ["small left effusion", "clear lungs"])
    objective, (seen, _) = learner.objectives["asg"].eval(), encoded(model, 3)
    batch = SimpleNamespace(reports=three_reports())
    whole = objective(seen, batch)
    monkeypatch.setattr(objective, "skipped", frozenset({"irl", "arsa", "erl"}))
    monkeypatch.setattr(objective, "recogniser", None)
    monkeypatch.setattr(objective, "parts", None)
    part = objective(seen, batch)
    assert part["ira"].item() == whole["ira"].item() > 0
    assert part["irl"] == part["arsa"] == 0
