"""medground join-shards: the outputs of the shards of one command -> one file."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from medground.cli import options
from medground.cli.command import FILES, command, option


@command()
@click.argument("shards", metavar="SHARD...", nargs=-1, required=True, type=click.Path(path_type=Path))
@option(
    "--like",
    metavar="INPUT",
    type=options.FILE,
    group=FILES,
    help="Input of the sharded command; sets the order and finds gaps.",
)
@option("--id-column", metavar="NAME", group=FILES, help="Column of INPUT with the study ID.")
@option(
    "--missing-ok",
    is_flag=True,
    group=FILES,
    help="Allow images and phrases of --like without a line.",
)
@options.output
def join_shards(
    shards: tuple[Path, ...], like: Path | None, id_column: str | None, missing_ok: bool, output: str
) -> None:
    """Join the outputs of --shard 1/N to N/N into one file.

    Without --like, the shards are written one after another. With --like, the lines are in the order of
    INPUT, and the file has the bytes of a run without --shard. INPUT holds JSON lines, or reports in any
    form that parse-reports reads.

    Stops and writes no file if a shard is missing (names with I-of-N are checked), a line is incomplete, a
    study, image or phrase is in two shards, or INPUT has an image or phrase without a line. Prints the counts
    on stderr.

    \b
        $ medground join-shards part-1-of-2.jsonl part-2-of-2.jsonl --like reports.csv -o sentences.jsonl
        5,301 lines of 700 studies from 2 shards, of 702 in the input
    """
    if id_column is not None and like is None:
        raise click.UsageError("--id-column requires --like")
    from medground import joining, output_files

    joining.check_names([*shards])
    with ExitStack() as stack:
        lines = [joining.Lines(stack.enter_context(path.open("rb"))) for path in shards]
        out = stack.enter_context(output_files.create(output))
        if like:
            keys = _keys(stack, like, joining.key_name(lines), id_column)
            joined = joining.merge(out, lines, keys, missing_ok)
        else:
            joined = joining.chain(out, lines)
    click.echo(joined, err=True)


def _keys(stack: ExitStack, path: Path, name: str, column: str | None) -> Iterator[str]:
    """Yield the keys of the input's records, in order; of a table, from `column` if it is given."""
    from medground import joining, jsonl
    from medground.cli.report_input import open_reports
    from medground.reports.input import Columns

    if path.suffix == ".jsonl":
        yield from joining.keys_of_lines(stack.enter_context(path.open("rb")), name)
    else:
        columns = Columns(text=column, study=column)  # the text does not matter: any column does
        for report in open_reports(stack, str(path), columns, jsonl.BadLines()):
            yield report.study_id
