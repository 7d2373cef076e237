"""medground parse-reports: reports -> sentences with triplets."""

from typing import Any

import click

from medground.cli import options
from medground.cli.command import DATA, FILES, command, option
from medground.cli.report_modes import run


@command("parse-reports")
@click.argument("source", metavar="[FILE]", type=click.Path(exists=True, allow_dash=True), default="-")
@option(
    "--input-format",
    type=click.Choice(["auto", "radgraph", "chest-imagenome"]),
    default="auto",
    show_default=True,
    old=["--from"],
    old_keys=["kind"],
    group=FILES,
    help="auto: reports; else the output of another parser.",
)
@option(
    "--output-format",
    type=click.Choice(["jsonl", "chexpert"]),
    default="jsonl",
    show_default=True,
    old=["--table"],
    group=FILES,
    help="chexpert: one CSV row per report with 1, 0, -1, blank.",
)
@option(
    "--html",
    metavar="FILE",
    type=options.OutputFile(dir_okay=False),
    group=FILES,
    help="Write an HTML page instead of records.",
)
@option(
    "--html-limit",
    type=options.COUNT,
    default=200,
    show_default=True,
    old=["--html-reports"],
    group=FILES,
    help="Number of reports on the page.",
)
@option("--explain", metavar="TEXT", group=FILES, help="Explain how one sentence is parsed; reads no file.")
@option("--text-column", metavar="NAME", group=DATA, help="Table column with the whole report.")
@option("--id-column", metavar="NAME", group=DATA, help="Table column with the study ID.")
@option("--subject-column", metavar="NAME", group=DATA, help="Table column with the patient ID.")
@option(
    "--section-columns",
    metavar="NAME=COLUMN,...",
    group=DATA,
    help="Table columns with sections, such as findings=Befund,impression=Beurteilung.",
)
@option(
    "--lexicon",
    type=click.Path(exists=True, dir_okay=False),
    group=DATA,
    help="TOML file with terms to add to the lexicon.",
)
@option(
    "--existence-by",
    type=click.Choice(["rules", "negspacy"]),
    default="rules",
    show_default=True,
    group=DATA,
    help="Decide existence by the parser's rules or by negspacy's component.",
)
@option(
    "--likely-as",
    type=click.Choice(["present", "uncertain"]),
    default="uncertain",
    show_default=True,
    group=DATA,
    help='Existence of "likely" and "probable" findings.',
)
@option("--all-sections", is_flag=True, group=DATA, help="Also parse history, technique and comparison.")
@option("--any-language", is_flag=True, group=DATA, help="Also parse reports that are not in English.")
@options.config
@options.shard
@options.workers
@options.resume
@options.rejects
@options.output
def parse_reports(**choices: Any) -> None:
    """Parse reports into sentences with <region, finding, existence> triplets.

    FILE is a CSV table with any columns (mimic_cxr_sectioned.csv, ...), JSON lines, one .txt, or a folder
    of them. Parses findings and impression, not history, technique and comparison. Spans count code points of
    the input: of the report's text, or of the section's column. Reports that are not English give no
    sentence, and are counted in a warning.

    --input-format: radgraph reads RadGraph(-XL) JSON; chest-imagenome reads scene graphs in a folder or .zip.

    \b
        $ medground parse-reports reports.csv -o sentences.jsonl
        $ medground parse-reports --explain "No pneumothorax; small left effusion."
        $ medground parse-reports --input-format chest-imagenome scene_graph.zip -o sentences.jsonl
    """
    run(**choices)
