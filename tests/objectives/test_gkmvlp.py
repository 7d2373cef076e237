"""GK-MVLP's parts, each compared with a slow, obvious reference, and the table of knowledge."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from medground.anatomy import regions
from medground.models import grounder
from medground.models.network import EncodedImages
from medground.objectives import gkmvlp, heads, knowledge, writer
from medground.objectives.learner import Learner
from medground.objectives.objective import Encoded
from medground.objectives.report_batch import ReportBatch, means, words_of
from medground.reports.wordlists import read_table

FINDINGS = {each["name"]: each for each in read_table("findings.toml")["finding"]}
WORDS = ["small left effusion", "clear lungs", "no pneumothorax"]
RIGHT, LEFT, HEART = (regions.NAMES.index(name) for name in ("right lung", "left lung", "cardiac silhouette"))


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def test_every_finding_with_a_tag_or_a_chexpert_label_is_known():
    wanted = {name for name, each in FINDINGS.items() if "asg" in each or "chexpert" in each}
    assert wanted <= set(knowledge.NAMES) <= FINDINGS.keys()


def test_no_finding_and_no_sentence_is_there_twice():
    assert len(set(knowledge.NAMES)) == len(knowledge.NAMES) == len(set(knowledge.TEXTS))


def test_knowledge_is_one_sentence_that_every_text_encoder_can_read():
    for text in knowledge.TEXTS:
        assert text[0].isupper() and text.endswith(".") and text.count(".") == 1, text
        assert 4 <= len(text.split()) <= 26, text
        assert "left" not in text.lower().split(), text  # "right" is there: the right heart has no other name


def test_a_finding_lies_in_regions_that_have_boxes_and_on_both_sides():
    for name, places in zip(knowledge.NAMES, knowledge.REGIONS, strict=True):
        own = set(places)
        assert own and own <= set(regions.NAMES), name
        paired = {each for each in own if regions.mirror(each) != each}
        assert {regions.mirror(each) for each in paired} == paired, name


@pytest.mark.parametrize("key", ["region", "default"])
def test_a_finding_may_lie_where_the_lexicon_puts_it(key):
    for name, own in zip(knowledge.NAMES, knowledge.REGIONS, strict=True):
        placed = set(FINDINGS[name].get(key, ())) & set(regions.NAMES)
        assert placed <= set(own), name


@pytest.fixture(scope="module")
def model() -> grounder.Grounder:
    torch.manual_seed(0)
    return grounder.build("small", [*WORDS, *knowledge.TEXTS])


@pytest.fixture(scope="module")
def objective(model) -> gkmvlp.GKMVLP:
    torch.manual_seed(1)
    return Learner(model, ["gk-mvlp"]).objectives["gk-mvlp"].eval()


@pytest.fixture(scope="module")
def material(model) -> tuple[Encoded, SimpleNamespace]:
    """Three images: two reports, and one without."""
    torch.manual_seed(2)
    ids, mask = model.tokenize([*WORDS, *knowledge.TEXTS])
    grid = torch.randn(3, 128, 4, 4)
    images = EncodedImages(grid.flatten(2).transpose(1, 2), torch.ones(3, 16, dtype=torch.bool), grid)
    count = len(knowledge.NAMES)
    batch_reports = ReportBatch(
        sentences=rows(0, 2, 1), report_of=rows(0, 0, 1), pair_texts=rows(), pair_images=rows(),
        pair_boxes=torch.zeros(0, 4), regions=rows(RIGHT, LEFT, HEART, LEFT), region_images=rows(0, 0, 0, 1),
        region_boxes=torch.tensor(
            [[0.2, 0.5, 0.3, 0.8], [0.8, 0.5, 0.3, 0.8], [0.5, 0.7, 0.4, 0.3], [0.7, 0.4, 0.4, 0.5]]
        ),
        tags=torch.zeros(3, 40), findings=(torch.rand(3, count) > 0.9).float(),
        has_report=torch.tensor([True, True, False]), always=torch.arange(3, 3 + count),
    )  # fmt: skip
    return Encoded(images, model.network.encode_texts(ids, mask), mask, None), SimpleNamespace(
        reports=batch_reports, ids=ids
    )


def moved(objective, material, image: int, region: int) -> set[str]:
    """The findings whose grounded knowledge changes when a region's feature does."""
    batch_reports = material[1].reports
    areas = torch.randn(3, len(regions.NAMES), 128)
    there = torch.zeros(3, len(regions.NAMES), dtype=torch.bool)
    there[batch_reports.region_images, batch_reports.regions] = True
    known = torch.randn(len(knowledge.NAMES), 128)
    before = objective.grounding(known, areas, there)[image]
    areas[image, region] = torch.randn(128)
    after = objective.grounding(known, areas, there)[image]
    changed = (before - after).abs().amax(dim=1) > 1e-6
    return {name for name, each in zip(knowledge.NAMES, changed.tolist(), strict=True) if each}


@pytest.mark.slow
def test_a_finding_attends_only_to_its_own_regions(objective, material):
    own = {name: set(each) for name, each in zip(knowledge.NAMES, knowledge.REGIONS, strict=True)}
    for region in (RIGHT, HEART):
        assert moved(objective, material, 0, region) == {
            name for name, each in own.items() if regions.NAMES[region] in each
        }


def test_a_region_without_a_box_gets_no_attention(objective, material):
    assert moved(objective, material, 1, HEART) == set()
    assert moved(objective, material, 2, RIGHT) == set()


def test_without_the_mask_every_finding_sees_every_region(model, material):
    torch.manual_seed(1)
    free = Learner(model, ["gk-mvlp-unmasked"]).objectives["gk-mvlp-unmasked"].eval()
    assert moved(free, material, 0, HEART) == set(knowledge.NAMES)
    assert moved(free, material, 1, HEART) == set()


def test_what_a_finding_sees_is_its_own_images(objective, material):
    encoded, batch = material
    before = objective.ground(encoded, batch.reports)
    patches = encoded.images.patches.clone()
    patches[0] += torch.randn_like(patches[0])
    after = objective.ground(replace(encoded, images=encoded.images._replace(patches=patches)), batch.reports)
    assert not torch.allclose(before[0], after[0])
    assert torch.allclose(before[1:], after[1:])


def test_knowledge_of_different_findings_points_in_different_directions(model):
    ids, mask = model.tokenize(list(knowledge.TEXTS))
    every = rows(*range(len(ids)))
    with torch.no_grad():
        known = means(*words_of(model.network.encode_texts(ids, mask), mask, every, every), len(ids))
    before, after = (cosines(each) for each in (known, heads.apart(known)))
    assert before.mean() > 0.8  # the fault: sentences of one encoder are alike
    assert after.abs().mean() < 0.3
    assert heads.apart(known).square().mean().item() == pytest.approx(1, rel=1e-4)
    assert heads.apart(known[:1].expand(3, -1)).isfinite().all()


def cosines(known: torch.Tensor) -> torch.Tensor:
    """The cosines of all pairs of different rows."""
    unit = torch.nn.functional.normalize(known, dim=1)
    return (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]


def test_what_all_sentences_of_knowledge_share_does_not_matter(objective, material):
    encoded, batch = material
    shifted = encoded.tokens.clone()
    shifted[batch.reports.always] += torch.randn(shifted.shape[2])
    before, after = (
        objective.ground(each, batch.reports) for each in (encoded, replace(encoded, tokens=shifted))
    )
    assert torch.allclose(before, after, atol=1e-4)


def test_regions_are_normalized_over_the_images_that_have_them():
    torch.manual_seed(5)
    norm, areas = heads.RegionNorm(3, 4), 5 + 3 * torch.randn(6, 3, 4)
    there = torch.ones(6, 3, dtype=torch.bool)
    there[:2, 1], there[1:, 2] = False, False
    found = norm(areas, there)
    for region in (0, 1):
        own = areas[there[:, region], region]
        slow = (own - own.mean(dim=0)) / (own.var(dim=0, correction=0) + norm.eps).sqrt()
        assert torch.allclose(found[there[:, region], region], slow, atol=1e-5)
    assert (found[~there] == 0).all()
    assert torch.allclose(found[0, 2], areas[0, 2] / (1 + norm.eps) ** 0.5)  # a single image has no variance
    for _ in range(200):
        norm(areas, there)
    assert torch.allclose(norm.eval()(areas, there)[:, 0].std(dim=0), torch.ones(4), atol=1e-3)
    assert norm(areas[:1], there[:1]).isfinite().all()


def test_each_finding_is_read_with_its_own_weights(objective):
    entities = torch.randn(2, len(knowledge.NAMES), 128)
    found, layer = objective.recognise(entities), objective.present
    for image in range(2):
        for k in range(len(knowledge.NAMES)):
            own = sum(entities[image, k] * layer.weight[k]) + layer.bias[k]
            assert found[image, k].item() == pytest.approx(own.item(), abs=1e-4)


def test_grounding_an_image_without_boxes_is_finite(objective, material):
    encoded, batch = material
    assert objective.ground(encoded, batch.reports)[2].isfinite().all()


def test_the_report_is_written_word_by_word_and_ends(model, objective):
    """The likelihood of whole reports is that of one token after another, each from those before it."""
    torch.manual_seed(3)
    ids, valid = rows(2, 9, 7, 3, 2, 5, 3, 0).view(2, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    memory, hidden = torch.randn(2, 6, 128), torch.zeros(2, 6, dtype=torch.bool)
    slow = []
    for report, wanted in ((0, [9, 7, 3, 2]), (1, [5, 3, 2])):
        for length, token in enumerate(wanted, start=1):
            start = ids[report : report + 1, :length]
            logits = objective.writer.logits(start, memory[report : report + 1], hidden[:1])[0, -1]
            slow.append(-logits.log_softmax(0)[token].item())
    assert objective.writer(ids, valid, memory, hidden).tolist() == pytest.approx(slow, abs=1e-4)


def test_the_writer_learns_from_the_findings_that_its_report_states_only(objective, material):
    encoded, batch = material
    entities, reports = objective.ground(encoded, batch.reports), batch.reports
    memory, hidden = objective.memory(encoded, entities, reports)
    stated = [k for k in range(len(knowledge.NAMES)) if reports.findings[0, k] == 1]
    shown = gkmvlp.only(reports.findings[reports.has_report] == 1, hidden)
    assert [k for k in range(len(knowledge.NAMES)) if not shown[0, 16 + k]] == stated != []
    assert not shown[:, :16].any()
    before = objective(encoded, batch)["lm"]
    for k, changes in ((stated[0], True), (1 if 0 in stated else 0, False)):
        findings = reports.findings.clone()
        findings[0, k] = -1  # uncertain: not stated as present
        after = objective(
            encoded, SimpleNamespace(reports=replace(reports, findings=findings), ids=batch.ids)
        )
        assert bool((after["lm"] - before).abs() > 1e-6) == changes
    assert memory.shape[1] == shown.shape[1]


def test_the_writer_of_a_new_image_gets_the_findings_above_their_threshold(objective, material):
    encoded, batch = material
    own = copy.deepcopy(objective)
    chances = own.chances(own.ground(encoded, batch.reports))
    own.thresholds.copy_(chances[0])
    own.thresholds[:3] += 0.001
    _, hidden = own.visual_tokens(encoded, batch.reports)
    assert hidden[0].tolist() == [False] * 16 + [True] * 3 + [False] * (len(knowledge.NAMES) - 3)
    assert hidden[1, 16:].tolist() == (chances[1] < own.thresholds).tolist()


def test_the_writer_shares_the_text_encoders_words(model, objective):
    own = {name for name, _ in objective.writer.named_parameters()}
    assert not any(name.startswith("words") for name in own)
    assert objective.writer.words[0] is model.network.text_encoder.get_input_embeddings()


def test_the_writer_begins_alike_with_embeddings_of_any_scale(model, objective):
    embeddings = model.network.text_encoder.get_input_embeddings()
    ids, memory, hidden = rows(2, 9, 7).view(1, 3), torch.randn(1, 6, 128), torch.zeros(1, 6).bool()
    with torch.no_grad():
        before = objective.writer.logits(ids, memory, hidden)
        embeddings.weight.mul_(64)
        after = objective.writer.logits(ids, memory, hidden)
        embeddings.weight.div_(64)
    assert torch.allclose(after, before, atol=1e-4)
    assert 0.1 < before.std() < 3


def test_a_partner_is_never_ones_own_report_nor_one_of_the_same_words():
    ids = torch.tensor([[2, 5, -1], [2, 5, -1], [2, 6, 3], [2, 7, 3]])
    chances = gkmvlp.partners(torch.tensor([[0.0, 9, 3, 1]] * 4), ids)
    assert (chances > 0).tolist() == [[False, False, True, True]] * 2 + [
        [True, True, False, True],
        [True, True, True, False],
    ]
    assert chances[0, 2] / chances[0, 3] == pytest.approx(math.exp(2), rel=1e-4)


def test_hard_negatives_are_sampled_more_often():
    torch.manual_seed(0)
    chances = torch.tensor([[0.0, 0.8, 0.2], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    drawn = [gkmvlp._sampled(chances, torch.arange(3)) for _ in range(300)]
    assert all(able.tolist() == [0, 2] and picked[1] == 0 for able, picked in drawn)
    assert 200 < sum(int(picked[0] == 1) for _, picked in drawn) < 280


def test_matching_is_the_mean_over_true_and_sampled_pairs(objective, monkeypatch):
    monkeypatch.setattr(gkmvlp.GKMVLP, "match", lambda self, words, *_: words[:, 0, 0])
    words = torch.tensor([2.0, -1.0]).view(2, 1, 1)
    given = (
        words,
        torch.ones(2, 1).bool(),
        torch.zeros(2, 1, 1),
        torch.zeros(2, 1).bool(),
        torch.zeros(2, 2),
    )
    loss = objective.matching_loss(*given, chances=1 - torch.eye(2))
    true = sum(math.log(1 + math.exp(-each)) for each in (2, -1))
    wrong = 2 * sum(math.log(1 + math.exp(each)) for each in (2, -1))
    assert loss.item() == pytest.approx((true + wrong) / 6, rel=1e-5)


def test_the_contrast_adds_its_logit_of_the_same_pair_to_matching(objective, monkeypatch):
    words, memory = torch.randn(2, 3, 128), torch.randn(2, 6, 128)
    given = (words, torch.ones(2, 3).bool(), memory, torch.zeros(2, 6).bool())
    before, after = (objective.match(*given, each) for each in (torch.zeros(2), torch.tensor([3.0, -1.0])))
    assert (after - before).tolist() == pytest.approx([3, -1], abs=1e-4)
    monkeypatch.setattr(gkmvlp.GKMVLP, "match", lambda self, words, *rest: rest[-1])
    similar = torch.tensor([[2.0, 1.0], [-3.0, 4.0]])
    loss = objective.matching_loss(*given, similar, chances=1 - torch.eye(2))
    true = sum(math.log(1 + math.exp(-each)) for each in (2, 4))
    wrong = 2 * sum(math.log(1 + math.exp(each)) for each in (1, -3))
    assert loss.item() == pytest.approx((true + wrong) / 6, rel=1e-5)


def test_an_image_is_compared_by_the_knowledge_of_the_findings_that_are_recognized(objective, material):
    encoded, batch = material
    entities = objective.ground(encoded, batch.reports)
    known, logits = gkmvlp.known_of(encoded, batch.reports), objective.recognise(entities)
    slow = [
        sum(torch.sigmoid(logits[image, k]) * known[k] for k in range(len(knowledge.NAMES)))
        for image in range(2)
    ]
    images, _ = objective.wholes(encoded, batch.reports, entities, known)
    assert torch.allclose(images, objective.image(torch.stack(slow) / (1 + 1e-5) ** 0.5), atol=1e-4)


def test_a_step_computes_the_knowledge_once_with_the_losses_of_computing_it_twice(
    objective, material, monkeypatch
):
    encoded, batch = material
    calls, once, ground = [], gkmvlp.known_of, gkmvlp.GKMVLP.ground

    def counted(*given):
        calls.append(given)
        return once(*given)

    def losses():
        torch.manual_seed(4)  # the negatives of itm are sampled
        return {name: each.item() for name, each in objective(encoded, batch).items()}

    monkeypatch.setattr(gkmvlp, "known_of", counted)
    found = losses()
    assert len(calls) == 1
    monkeypatch.setattr(
        gkmvlp.GKMVLP, "ground", lambda self, encoded, reports, _: ground(self, encoded, reports)
    )
    assert losses() == found and len(calls) == 3


def test_what_all_reports_share_does_not_change_the_contrast(objective, material):
    encoded, batch = material
    learning = copy.deepcopy(objective).train()
    shifted = encoded.tokens.clone()
    shifted[batch.reports.sentences] += 10 * torch.randn(shifted.shape[2])
    entities, known = objective.ground(encoded, batch.reports), gkmvlp.known_of(encoded, batch.reports)
    before, after = (
        learning.wholes(each, batch.reports, entities, known)[1]
        for each in (encoded, replace(encoded, tokens=shifted))
    )
    assert torch.allclose(before, after, atol=1e-3) and not torch.allclose(before[0], before[1])


def test_the_contrast_trains_texts_but_not_the_recognition_of_findings(model, material):
    off = dict.fromkeys(("itm", "lm", "ecls"), 0.0)
    learning = Learner(model, ["gk-mvlp"], off).objectives["gk-mvlp"].train()
    encoded, batch = material
    tokens, patches = encoded.tokens.detach(), encoded.images.patches.clone()
    for each in (tokens, patches):
        each.requires_grad_()
    given = replace(encoded, tokens=tokens, images=encoded.images._replace(patches=patches))
    learning(given, batch)["itc"].backward()
    assert tokens.grad[batch.reports.sentences].abs().sum() > 0
    assert patches.grad is None or not patches.grad.any()
    assert all(each.grad is None or not each.grad.any() for each in learning.present.parameters())


def test_losses_are_finite_and_images_without_a_report_cost_nothing(objective, material):
    encoded, batch = material
    torch.manual_seed(0)
    whole = objective(encoded, batch)
    assert whole.keys() == {"itc", "itm", "lm", "ecls"} == objective.defaults.keys()
    first = EncodedImages(*(part[:2] for part in encoded.images))
    batch_reports = batch.reports
    fewer = replace(
        batch_reports,
        tags=batch_reports.tags[:2],
        findings=batch_reports.findings[:2],
        has_report=batch_reports.has_report[:2],
    )
    torch.manual_seed(0)
    part = objective(replace(encoded, images=first), SimpleNamespace(reports=fewer, ids=batch.ids))
    for name, loss in whole.items():
        assert loss.item() == pytest.approx(part[name].item(), rel=1e-4), name


@pytest.mark.parametrize("kept", ["itc", "itm", "lm", "ecls"])
def test_losses_with_the_weight_0_are_not_computed_and_change_no_other(model, material, kept, monkeypatch):
    off = dict.fromkeys({"itc", "itm", "lm", "ecls"} - {kept}, 0.0)
    torch.manual_seed(1)
    learner = Learner(model, ["gk-mvlp"], off).eval()
    alone = learner.objectives["gk-mvlp"]
    found = []
    for skipped in (frozenset(), alone.skipped):
        alone.skipped = skipped
        torch.manual_seed(0)
        found.append(alone(*material))
    assert found[1][kept].item() == pytest.approx(found[0][kept].item(), rel=1e-6) and found[1][kept] > 0
    assert [found[1][name].item() for name in off] == [0, 0, 0]
    if kept != "itm":
        monkeypatch.setattr(gkmvlp.GKMVLP, "match", None)
        assert alone(*material).keys() == learner.weights(0).keys()


def test_a_batch_without_a_report_costs_nothing(objective, material):
    encoded, batch = material
    silent = replace(
        batch.reports, has_report=torch.zeros(3, dtype=torch.bool), sentences=rows(), report_of=rows()
    )
    parts = objective(encoded, SimpleNamespace(reports=silent, ids=batch.ids))
    assert {name: loss.item() for name, loss in parts.items()} == dict.fromkeys(parts, 0)


def test_one_report_has_no_negative_and_is_still_learned(objective, material):
    encoded, batch = material
    alone = replace(batch.reports, has_report=torch.tensor([True, False, False]))
    parts = objective(encoded, SimpleNamespace(reports=alone, ids=batch.ids))
    assert all(loss.isfinite() for loss in parts.values())
    assert parts["lm"].item() > 0 and parts["itc"].item() == pytest.approx(0, abs=1e-6)


def test_where_a_report_is_cut_no_end_is_taught(objective, monkeypatch):
    ids, valid = rows(2, 9, 7, 3, 2, 5, 3, 0).view(2, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    memory, hidden = torch.randn(2, 6, 128), torch.zeros(2, 6, dtype=torch.bool)
    whole = objective.writer(ids, valid, memory, hidden).tolist()
    monkeypatch.setattr(writer, "LONGEST", 4)
    assert objective.writer(ids, valid, memory, hidden).tolist() == pytest.approx(whole[:3] + whole[4:])


@torch.inference_mode()
def test_a_report_that_grows_has_the_logits_of_the_whole_report(objective):
    torch.manual_seed(4)
    memory, hidden = torch.randn(2, 6, 128), torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 4:] = True
    steps = writer.WriterSteps(objective.writer, memory, hidden)
    for texts, sources in (([[2], [2]], (0, 1)), ([[2, 5], [2, 9], [2, 5]], (1, 0, 0)), ([[2, 5, 7]], (0,))):
        ids, rows_of = torch.tensor(texts), torch.tensor(sources)
        expected = objective.writer.logits(ids, memory[rows_of], hidden[rows_of])[:, -1]
        assert torch.allclose(steps(ids, rows_of), expected, atol=1e-4)
