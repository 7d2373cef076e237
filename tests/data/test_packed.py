import random
from dataclasses import replace

import pytest

from medground import leakage
from medground.boxes import union
from medground.data import collate, examples, packed, packing, paraphrasing
from medground.data.examples import Example, Query
from medground.errors import BadRecord, MedgroundError
from medground.records import Anatomy, Pair, Region, Sentence, Triplet
from medground.reports.parser import Parser

NAMES = ("left lung", "right lung", "spine", "a name of another list")
WORDS = ["opacity", "effusion", "left", "right", "base", "clear", "no", "lung", "é"]


@pytest.fixture(autouse=True)
def few_are_open(monkeypatch):
    monkeypatch.setattr(packed, "OPEN", 8)


def box(chance, exact):
    x, y = chance.randrange(900), chance.randrange(900)
    box = (x / 10, y / 10, x / 10 + chance.randrange(1, 500) / 10, y / 10 + 1.5)
    return (box[0], box[1], round(box[2], 1), round(box[3], 1)) if not exact else tuple(n / 3 for n in box)


def triplet(chance):
    given = {"finding_span": (0, 3), "region_span": None, "cue": None, "cue_span": None}
    existence = chance.choice(["present", "absent", "uncertain"])
    kind = {"region": "left lung", "finding": "lung opacity", "region_source": "explicit", "rule": "stated"}
    return Triplet(existence=existence, **given, **kind)


def image(number):
    ids = {"image_id": f"i{number}", "study_id": f"s{number // 2}", "subject_id": f"p{number // 4}"}
    return {**ids, "path": f"{number}.png", "width": 150, "height": 200}


def pair(chance, number):
    areas = [box(chance, chance.random() < 0.2) for _ in range(chance.choice([1, 1, 2, 3]))]
    named = {"regions": [chance.choice(NAMES) for _ in areas], "region_boxes": areas, "box": areas[0]}
    text = " ".join(chance.choices(WORDS, k=4))
    triplets = [triplet(chance) for _ in range(chance.randrange(3))]
    return Pair(**image(number), **named, sentence_id="s|0", text=text, triplets=triplets, rule="S1")


def sentence(chance, study):
    triplets = [triplet(chance) for _ in range(chance.randrange(3))]
    text = " ".join(chance.choices(WORDS, k=4))
    own = {"sentence_id": f"{study}|0", "section": "findings", "start": 0, "end": len(text)}
    return Sentence(study_id=study, text=text, triplets=triplets, **own)


class Reference:
    """The functions that define what `packing` does."""

    add_pairs = staticmethod(examples.from_pairs)
    add_anatomy = staticmethod(examples.from_anatomy)


def collected(found, reports, terms=False, by=Reference):
    """Fill a mapping as pretrain does; images return after others, so some are packed and opened again."""
    chance = random.Random(5)
    numbers = [*range(30), *chance.choices(range(30), k=30)]
    by.add_pairs([pair(chance, n) for n in numbers], found, terms=terms, reads=reports)
    regions = [[Region(name=name, box=box(chance, False)) for name in NAMES] for _ in range(30)]
    by.add_anatomy([Anatomy(**image(n), regions=own) for n, own in enumerate(regions)], found)
    if reports:
        examples.from_sentences([sentence(chance, f"s{n // 3}") for n in range(45)], found)
    return found


@pytest.mark.parametrize("reports", [False, True])
def test_packed_examples_are_the_examples(reports):
    plain = list(collected({}, reports, terms=True).values())
    small = collected(packed.ByImage(), reports, terms=True).packed()
    assert list(small) == plain and [small[n] for n in range(-2, 2)] == [plain[n] for n in range(-2, 2)]
    assert repr(list(small)) == repr(plain)
    assert packed.all_texts(small) == set(examples.all_texts(plain)) == packed.all_texts(plain)


def test_the_choices_of_a_step_are_the_same():
    plan = collate.Plan(images=7, seed=3, negatives=0.5)
    ours, theirs = (
        collate.Batches(given, None, lambda texts: texts, plan)
        for given in (collected(packed.ByImage(), True).packed(), list(collected({}, True).values()))
    )
    assert [ours._sampled(n, 0, 1)[0] for n in range(12)] == [theirs._sampled(n, 0, 1)[0] for n in range(12)]


@pytest.mark.parametrize("number", [0.1 + 0.2, -3.0, -0.0, 6553.6, 1e300, 1e-300, 6553.5, 12.25])
def test_a_box_is_kept_to_the_last_bit(number):
    query = Query(("a",), ((0.0, number, 1.0, 2.0),) * 300, ("not a", "b"))
    example = Example("i", "p", 1, 2, None, [query], [replace(query, denials=())], None, ["é"], [query])
    names = packed.Names()
    assert repr(names.unpack(names.pack(example))) == repr(example)


@pytest.mark.slow  # builds a parser
def test_held_out_patients_and_paraphrases_are_the_same():
    held_out = [Anatomy(**image(9) | {"subject_id": None}, regions=[])]
    plain, parser = leakage.without(collected({}, True).values(), held_out), Parser()
    paraphrasing.reword(plain, 2, parser)
    found = collected(packed.ByImage(), True)
    out = leakage.whole_patients(found.heads(), held_out)
    for image_id in [each.image_id for each in found.heads() if each in out]:
        del found[image_id]
    paraphrasing.reword(found.values(), 2, parser)
    small = found.packed()
    assert list(small) == plain and 0 < len(plain) < 30
    with_text = small.where(lambda each: bool(each.report))
    assert list(with_text) == [each for each in plain if each.report]
    assert [each.path for each in packed.heads(with_text)] == [each.path for each in with_text]


def test_an_image_takes_less_than_a_kilobyte():
    chance = random.Random(0)
    found = packed.ByImage()
    for number in range(20):
        own = [Region(name=f"region {n}", box=box(chance, False)) for n in range(29)]
        examples.from_anatomy([Anatomy(**image(number), regions=own)], found)
        several = [replace(pair(chance, number), box=(1.0, 2.0, 3.0, 4.0), region_boxes=[], regions=[])] * 5
        examples.from_pairs(several, found)
    assert max(map(len, found.packed()._rows)) < 1_000


def test_a_line_that_is_read_later_opens_its_image_again():
    chance, found = random.Random(1), packed.ByImage()
    pairs = [pair(chance, number) for number in (*range(20), 0)]
    examples.from_pairs(pairs, found)
    assert [query.texts[0] for query in found["i0"].sentences] == [pairs[0].text, pairs[-1].text]
    assert len(found) == 20


@pytest.mark.parametrize("batch", [1, 4, 256])
@pytest.mark.parametrize(("reports", "terms"), [(False, False), (False, True), (True, False)])
def test_many_images_at_a_time_are_the_images_one_by_one(monkeypatch, batch, reports, terms):
    monkeypatch.setattr(packing, "BATCH", batch)
    plain = list(collected({}, reports, terms).values())
    small = collected(packed.ByImage(), reports, terms, packing).packed()
    assert repr(list(small)) == repr(plain)
    assert packed.all_texts(small) == set(examples.all_texts(plain))
    assert list(small.with_queries()) == [each for each in plain if each.terms or each.sentences]


def ordinary(chance, number, own=4):
    """Return the pairs and regions of an image, without anything unusual but tenths or thirds of a pixel."""
    areas = [box(chance, number % 7 == 0) for _ in NAMES]
    absent = [triplet(chance) for _ in range(number % 3)]
    named = {"regions": ["spine", "left lung"], "region_boxes": areas[:2], "box": union(areas[:2])}
    first = Pair(**image(number), **named, sentence_id="s|0", text="both", triplets=absent, rule="S3")
    rest = [
        replace(first, regions=["spine"], region_boxes=areas[n : n + 1], box=areas[n]) for n in range(own)
    ]
    regions = [Region(name=name, box=area) for name, area in zip(NAMES, areas, strict=True)]
    return [first, *rest][: 1 + own * (number % 5 > 0)], Anatomy(
        **image(number), regions=regions[: number % 5]
    )


def loaded(by, found, made):
    by.add_pairs([pair for pairs, _ in made for pair in pairs], found)
    by.add_anatomy([anatomy for _, anatomy in made], found)
    return found


def test_ordinary_images_are_packed_in_batches(monkeypatch):
    chance = random.Random(2)
    made = [ordinary(chance, number) for number in range(100)]
    plain = loaded(Reference, {}, made)
    for name in ("from_pairs", "from_anatomy"):
        monkeypatch.delattr(examples, name)
    assert repr(list(loaded(packing, packed.ByImage(), made).packed())) == repr(list(plain.values()))


OUTSIDE = (-9.0, -9.0, -1.0, -1.0)
UNUSUAL = {
    "a region outside": lambda pairs, anatomy: (
        [replace(pairs[0], box=(1.0, 2.0, 3.0, 4.0))],
        replace(anatomy, regions=[Region(name="spine", box=OUTSIDE)]),
    ),
    "a pair outside": lambda pairs, anatomy: (
        [replace(pairs[0], box=OUTSIDE, region_boxes=[], regions=[])],
        anatomy,
    ),
    "negative numbers": lambda pairs, anatomy: (
        pairs,
        replace(anatomy, regions=[Region(name="spine", box=(-0.0, -3.0, 7.0, 9.0))]),
    ),
    "large numbers": lambda pairs, anatomy: (
        [replace(pairs[0], box=(0.0, 0.0, 1e300, 1e9), region_boxes=[], regions=[])],
        anatomy,
    ),
    "no regions": lambda pairs, anatomy: ([], replace(anatomy, regions=[])),
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_images_are_the_same(change):
    chance = random.Random(3)
    made = [ordinary(chance, number) for number in range(60)]
    made[40] = change(*made[41])
    made += [made[2], made[30]]
    plain = list(loaded(Reference, {}, made).values())
    assert repr(list(loaded(packing, packed.ByImage(), made).packed())) == repr(plain)


@pytest.mark.parametrize("place", [0, 20, 59])
def test_another_size_of_an_image_has_the_same_message(place):
    chance = random.Random(4)
    made = [ordinary(chance, number) for number in range(60)]
    made[place] = (made[place][0], replace(made[place][1], width=151))
    said = []
    for by, found in ((Reference, {}), (packing, packed.ByImage())):
        with pytest.raises(MedgroundError) as error:
            loaded(by, found, made)
        said.append((str(error.value), len(found)))
    assert said[0][0] == said[1][0]
    more = [*made[5][0], replace(made[5][0][0], height=7)]
    with pytest.raises(MedgroundError, match="150 x 200 and 150 x 7"):
        packing.add_pairs(more, packed.ByImage())


def test_an_error_of_an_earlier_line_comes_first():
    chance = random.Random(4)
    pairs = [pair for number in range(3) for pair in ordinary(chance, number)[0]]

    def broken():
        yield from pairs
        yield replace(pairs[0], width=9)
        raise BadRecord("a later one")

    with pytest.raises(MedgroundError, match="9 x 200"):
        packing.add_pairs(broken(), packed.ByImage())


def test_the_digest_depends_on_every_row_and_text():
    chance = random.Random(6)
    made = [ordinary(chance, number) for number in range(20)]

    def digest(made):
        return packed.digest(loaded(packing, packed.ByImage(), made).packed())

    other = replace(made[8][1], regions=[replace(each, name=each.name + "x") for each in made[8][1].regions])
    assert digest(made) == digest(made)
    assert len({digest(made), digest(made[:-1]), digest([*made[:8], (made[8][0], other), *made[9:]])}) == 3
    plain = list(loaded(Reference, {}, made).values())
    assert packed.digest(plain) == examples.digest(plain)


def test_files_without_a_line_are_no_examples():
    assert list(loaded(packing, packed.ByImage(), []).packed()) == []
