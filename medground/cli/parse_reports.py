"""medground parse-reports: reports -> sentences with triplets."""

import click

from medground.cli import options
from medground.cli.report_modes import run


@click.command("parse-reports")
@click.argument("source", metavar="[FILE]", type=click.Path(exists=True, allow_dash=True), default="-")
@click.option("--text-column", metavar="NAME", help="The table's column that holds the whole report.")
@click.option("--id-column", metavar="NAME", help="The table's column that holds the study's id.")
@click.option("--subject-column", metavar="NAME", help="The table's column that holds the patient's id.")
@click.option(
    "--section-columns",
    metavar="NAME=COLUMN,...",
    help="The table's columns that hold sections, as findings=Befund,impression=Beurteilung.",
)
@click.option(
    "--lexicon", type=click.Path(exists=True, dir_okay=False), help="TOML file whose words are added to ours."
)
@click.option(
    "--likely-as",
    type=click.Choice(["present", "uncertain"]),
    default="uncertain",
    show_default=True,
    help='How to read "likely" and "probable".',
)
@click.option("--all-sections", is_flag=True, help="Read history, technique and comparison too.")
@click.option(
    "--table", type=click.Choice(["chexpert"]), help="Write one CSV row a report instead: 1, 0, -1, blank."
)
@click.option(
    "--html", metavar="FILE", help="Write a page of the first --html-reports reports to look at instead."
)
@click.option(
    "--html-reports",
    type=options.COUNT,
    default=200,
    show_default=True,
    help="How many reports the page shows.",
)
@click.option(
    "--explain", metavar="TEXT", help="Print what was found in one sentence, and why; reads no file."
)
@click.option(
    "--from",
    "kind",
    type=click.Choice(["radgraph", "chest-imagenome"]),
    help="FILE is what another parser wrote: RadGraph(-XL) JSON, or scene graphs in a folder or a .zip.",
)
@options.config
@options.shard
@options.workers
@options.resume
@options.rejects
@options.output
def parse_reports(**choices) -> None:
    """Find what reports say: sentences with <region, finding, existence> triplets.

    FILE is a CSV table with any columns (mimic_cxr_sectioned.csv, ...), JSON lines, one .txt, or a folder
    of them. Findings and impression are read; history, technique and comparison are not. Spans count code
    points of the report as it was given: of its text, or of the section's own column.

    \b
        $ medground parse-reports reports.csv -o sentences.jsonl
        $ medground parse-reports --explain "No pneumothorax; small left effusion."
        $ medground parse-reports --from chest-imagenome scene_graph.zip -o sentences.jsonl
    """
    run(**choices)
