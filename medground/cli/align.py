"""medground align: sentences and region boxes -> pairs."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options
from medground.cli.command import DATA, FILES, command, option

if TYPE_CHECKING:
    from medground.shards import Shard


@command()
@options.records
@option(
    "--anatomy",
    type=click.File("rb"),
    required=True,
    old=["--boxes"],
    group=FILES,
    help="Region boxes; held in memory, about 3 kB per image.",
)
@option(
    "--existence",
    type=click.Choice(["present", "absent", "uncertain"]),
    multiple=True,
    default=["present"],
    show_default=True,
    old_keys=["existences"],
    group=DATA,
    help="Pair findings of this existence; repeatable.",
)
@option(
    "--min-score",
    type=options.SHARE,
    default=0.5,
    show_default=True,
    group=DATA,
    help="Minimum score of region boxes.",
)
@option(
    "--multi-region",
    type=click.Choice(["merge", "split"]),
    default="merge",
    show_default=True,
    old={"--merge": "merge", "--split": "split"},
    group=DATA,
    help="Sentences with several regions: one enclosing box, or one pair each.",
)
@option(
    "--join/--no-join",
    default=True,
    show_default=True,
    group=DATA,
    help="Join a study's sentences about the same regions into one pair.",
)
@options.config
@options.shard
@options.resume
@options.rejects
@options.output
def align(
    records: BinaryIO,
    anatomy: BinaryIO,
    existence: tuple[str, ...],
    min_score: float,
    multi_region: str,
    join: bool,
    shard: "Shard",
    rejects: BinaryIO | None,
    **out: Any,
) -> None:
    """Pair the sentences of reports with boxes on the images of their study.

    Reads sentences, as parse-reports writes them, one study at a time, and writes pairs for pretrain. Uses
    only frontal images. Rules: S1 one region, one box; S2 one region in several terms or sentences, one box
    and joined sentences; S3 several regions, see --multi-region; S4 no box, no pair.

    \b
        $ medground parse-reports reports.csv | medground align --anatomy boxes.jsonl
        {"image_id":"i1","study_id":"s1","sentence_id":"s1|0","path":"i1.png",...}
    """
    from medground import jsonl
    from medground.pairing import Rules, pair_studies
    from medground.records import Anatomy, Sentence

    options.refuse_two_stdins(records, anatomy)
    bad_lines = jsonl.BadLines(rejects)
    rules = Rules(frozenset(existence), min_score, split=multi_region == "split", join=join)  # type: ignore[arg-type]
    with options.journal(**out) as journal:
        anatomies = jsonl.scan(anatomy, Anatomy, bad_lines)
        sentences = jsonl.scan(records, Sentence, bad_lines)
        kept, boxes = shard.keep_both(sentences, anatomies)
        rest = journal.rest(kept, attrgetter("study_id"))
        for pairs in pair_studies(rest, boxes, rules, continued=journal.done > 0):
            journal.add(b"".join(map(jsonl.dumps, pairs)))
