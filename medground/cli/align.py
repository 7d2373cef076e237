"""medground align: sentences and region boxes -> pairs."""

from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options

if TYPE_CHECKING:
    from medground.shards import Shard


@click.command()
@options.records
@click.option(
    "--boxes",
    type=click.File("rb"),
    required=True,
    help="Region boxes, as detect-anatomy or convert writes them; held in memory, about 3 kB an image.",
)
@click.option(
    "--existence",
    "existences",
    type=click.Choice(["present", "absent", "uncertain"]),
    multiple=True,
    default=["present"],
    show_default=True,
    help="Which findings point to their region; repeat for several.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Pass over region boxes with a lower score.",
)
@click.option(
    "--merge/--split",
    default=True,
    show_default=True,
    help="A sentence with several regions: one box around them, or a pair for each with its words.",
)
@click.option(
    "--join/--no-join",
    default=True,
    show_default=True,
    help="Join the sentences of a study that speak of the same region into one pair.",
)
@options.config
@options.shard
@options.resume
@options.rejects
@options.output
def align(
    records: BinaryIO,
    boxes: BinaryIO,
    existences: tuple[str, ...],
    min_score: float,
    merge: bool,
    join: bool,
    shard: "Shard",
    rejects: BinaryIO | None,
    **out: Any,
) -> None:
    """Pair the sentences of reports with boxes on the images of their study.

    Reads sentences, as parse-reports writes them, one study at a time, and writes pairs for pretrain. Only
    frontal images count. Rules: S1 one region, one box; S2 one region in several words or sentences: one
    box, the sentences joined; S3 several regions: see --merge; S4 no box: no pair.

    \b
        $ medground parse-reports reports.csv | medground align --boxes boxes.jsonl
        {"image_id":"i1","study_id":"s1","sentence_id":"s1|0","path":"i1.png",...}
    """
    from medground import jsonl
    from medground.pairing import Rules, pair_studies
    from medground.records import Anatomy, Sentence

    options.refuse_two_stdins(records, boxes)
    bad_lines = jsonl.BadLines(rejects)
    rules = Rules(frozenset(existences), min_score, split=not merge, join=join)  # type: ignore[arg-type]
    with options.journal(**out) as journal:
        anatomies = jsonl.read(boxes, Anatomy, bad_lines)
        sentences = jsonl.read(records, Sentence, bad_lines)
        told, seen = shard.keep_both(sentences, anatomies)
        for pairs in pair_studies(told, seen, rules, journal.done):
            journal.add(b"".join(map(jsonl.dumps, pairs)))
