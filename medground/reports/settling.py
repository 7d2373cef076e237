"""Regions of a finding: the most specific ones of its places."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from medground.reports.lexicon import Finding
from medground.reports.linking import PAIRED, WHOLE
from medground.reports.mentions import Mention
from medground.reports.regions import LIMBS, LUNG, Place


def settle(mention: Mention, inherited: list[str], findings: dict[str, Finding]) -> None:
    """Decide the mention's regions, their source, and its name if the place refines it."""
    if mention.finding.at:
        _refine(mention, findings)
    finding = mention.finding
    regions = _finest(mention.places, finding) if mention.places else []
    if finding.region:
        mention.places = [place for place in mention.places if place.names]
        mention.regions, mention.source = finding.region, "explicit" if mention.places else "default"
    elif regions:
        mention.regions, mention.source = regions, "explicit"
    elif mention.fixed:
        mention.regions, mention.source = mention.fixed, "default"
    elif inherited and finding.group != "technicalassessment":
        mention.regions, mention.source = inherited, "inherited"
    elif finding.default:
        mention.regions, mention.source = finding.default, "default"


def lies_outside(mention: Mention) -> bool:
    """Return whether a finding of the lungs is at an arm or a breast: a density over the glenoid."""
    if not mention.places:
        return False
    levels = [level for place in mention.places for _, level in place.pairs]
    return mention.finding.within == "lungs" and bool(levels) and all(each in LIMBS for each in levels)


def _refine(mention: Mention, findings: dict[str, Finding]) -> None:
    """Rename a finding by its place: degenerative changes of the spine, a fracture of a rib."""
    for place in mention.places:
        for each in (*place.names, *(level for _, level in place.pairs if level)):
            if each in mention.finding.at:
                mention.finding = findings[mention.finding.at[each]]
                return


def _finest(places: list[Place], finding: Finding) -> list[str]:
    """Return the most specific regions of the places.

    A whole lung is dropped if one of its zones is named, a bare side if any region is. Lines and tubes keep
    their side together with the place of their end.
    """
    if len(places) == 1:
        return places[0].regions(finding)
    places = _with_known_side(places)
    if finding.asg == "line":
        return list(dict.fromkeys(each for place in places for each in place.regions(finding)))
    places = [p for p in places if p.pairs != WHOLE] or places
    named = [p for p in places if p.names or any(level for _, level in p.pairs)]
    zones = [p for p in named if p.names or any(level != "lung" for _, level in p.pairs)]
    regions: dict[str, None] = {}
    for choice in (zones, named, places):
        regions = regions or dict.fromkeys(each for place in choice for each in place.regions(finding))
    if zones and finding.within == "lungs" and not any(p.names for p in zones):
        regions |= dict.fromkeys(_other_lungs(named, finding, regions))
    bare = dict.fromkeys(each for p in places if p not in named for each in p.regions(finding))
    sides = {each.split()[0] for each in regions}
    return [*regions, *(each for each in bare if each.split()[0] not in sides)]


def _other_lungs(places: list[Place], finding: Finding, regions: Iterable[str]) -> Iterator[str]:
    """Yield the whole lungs of the places, if their side has no finer region: "right lung and left base"."""
    sides = {each.split()[0] for each in regions}
    for place in places:
        if place.pairs and all(side in ("right", "left") and level == "lung" for side, level in place.pairs):
            yield from (each for each in place.regions(finding) if each.split()[0] not in sides)


def _with_known_side(places: list[Place]) -> list[Place]:
    """Return the places, with a level without a side given the one side of the other places.

    Examples: "in the right lung, at the base"; and with a later bare side "basilar atelectasis on the left".
    """
    sided = [place for place in places if any(side for side, _ in place.pairs)]
    sides = {side for place in sided for side, _ in place.pairs if side}
    if len(sides) != 1 or len(sided) == len(places):
        return places
    (side,) = sides
    bare = all(level is None for place in sided for _, level in place.pairs)
    return [
        replace(
            p,
            pairs=[
                (own or (side if level in LUNG or (bare and level in PAIRED) else None), level)
                for own, level in p.pairs
            ],
        )
        if bare or p.i > sided[0].i
        else p
        for p in places
    ]
