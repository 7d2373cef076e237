"""medground parse-reports: reports -> sentences with triplets."""

import click

from medground.cli import options


@click.command("parse-reports")
@click.argument("source", metavar="[FILE]", type=click.Path(exists=True, allow_dash=True), default="-")
@click.option("--text-column", metavar="NAME", help="The table's column that holds the whole report.")
@click.option("--id-column", metavar="NAME", help="The table's column that holds the study's id.")
@options.rejects
@options.output
def parse_reports(source, text_column, id_column, rejects, output) -> None:
    """Find what reports say: sentences with <region, finding, existence>.

    \b
        $ medground parse-reports reports.csv -o sentences.jsonl
    """
    from medground import jsonl
    from medground.reports.input import Columns, read_table
    from medground.reports.parser import Parser

    take = jsonl.BadLines(rejects).take
    with click.open_file(source, "rb") as stream, jsonl.create(output) as out:
        reports = read_table(stream, source, Columns(text=text_column, study=id_column), take)
        jsonl.write(out, Parser().parse(reports))
