"""The modes of parse-reports: sentences, a table, a page, an explanation, or another parser's output."""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from medground.cli import options
from medground.cli.report_spread import Render, Result

if TYPE_CHECKING:
    from medground.resuming import Journal

log = logging.getLogger(__name__)
FOREIGN = "not English, --any-language parses it"
BUILD_WITH = ("lexicon", "existence_by", "likely_as", "all_sections", "any_language")
OBJECTS = 50_000  # new objects before a garbage collection: neither a parse nor its records have cycles
RECORDS = {"output": "-o", "output_format": "--output-format", "resume": "--resume"}
OTHER_PARSER = {"html": "--html", "output_format": "--output-format"} | {
    name: "--" + name.replace("_", "-")
    for name in (*BUILD_WITH[1:], "text_column", "id_column", "subject_column", "section_columns")
}
UNPARSED = {
    "silent": "no findings or impression",
    "foreign": FOREIGN,
    "skipped": "text about another part of the body was not parsed",
}


def run(source: str, explain: str | None, input_format: str, html: str | None, **choices: Any) -> None:
    """Run the mode that the options select."""
    from medground import jsonl

    if explain is not None:
        others = {"source": "FILE", "html": "--html", "input_format": "--input-format"}
        _refuse_unused("--explain", RECORDS | others)
    elif input_format != "auto":
        names = {"lexicon": "--lexicon"} if input_format == "chest-imagenome" else {}
        _refuse_unused(f"--input-format {input_format}", OTHER_PARSER | names)
    elif html is not None:
        _refuse_unused("--html", RECORDS)
    bad_lines = jsonl.BadLines(choices["rejects"])
    build_with = tuple(choices[each] for each in BUILD_WITH)
    if explain is not None:
        _explain(explain, build_with)
    elif input_format != "auto":
        _import(input_format, source, bad_lines, choices)
    elif html is not None:
        _page(source, html, build_with, bad_lines, choices)
    else:
        _parse(source, build_with, bad_lines, choices)


def _refuse_unused(mode: str, names: dict[str, str]) -> None:
    """Raise UsageError for an option that the mode would ignore."""
    for name, flag in names.items():
        if options.is_given(name):
            raise click.UsageError(f"{flag} would have no effect: leave out {mode} or {flag}")


def _explain(sentence: str, build_with: tuple[Any, ...]) -> None:
    from medground.reports.explain import explain

    for line in explain(build_parser(*build_with), sentence):
        click.echo(line)


def _import(kind: str, source: str, bad_lines: Any, choices: dict[str, Any]) -> None:
    from medground import console, jsonl

    with options.journal(choices["output"], choices["resume"]) as out:
        sentences = choices["shard"].keep(_imported(kind, source, bad_lines, choices["lexicon"]))
        for sentence in console.progress(out.rest(sentences), "sentences", start=out.done):
            out.add(jsonl.dumps(sentence))


def _imported(kind: str, source: str, bad_lines: Any, lexicon: str | None) -> Iterator[Any]:
    """Yield the sentences of another parser's output."""
    if kind == "chest-imagenome":
        if source == "-":
            raise click.UsageError(
                "--input-format chest-imagenome requires a folder or .zip of scene graphs, not stdin"
            )
        from medground.datasets import imagenome_sentences

        yield from imagenome_sentences.read(Path(source), bad_lines.take)
        return
    from medground.datasets import radgraph
    from medground.reports.naming import Naming

    naming = Naming(build_parser(lexicon).lexicon)
    with click.open_file(source, "rb") as stream:
        yield from radgraph.read(cast(BinaryIO, stream), naming.finding, naming.regions, bad_lines.take)


def _page(
    source: str, html: str, build_with: tuple[Any, ...], bad_lines: Any, choices: dict[str, Any]
) -> None:
    from medground import output_files
    from medground.cli.report_input import open_reports
    from medground.reports.page import write_page

    parser = build_parser(*build_with)
    with ExitStack() as stack:
        reports = choices["shard"].keep(open_reports(stack, source, _columns(choices), bad_lines))
        shown = list(islice(reports, choices["html_limit"]))
        page = write_page(((each, parser.parse_report(each)) for each in shown), "Parsed reports")
    with output_files.create(html) as stream:
        stream.write(page)
    foreign = Unparsed(FOREIGN)
    for number, report in enumerate(shown, start=1):
        if parser.is_foreign(report):
            foreign.add(number)
    foreign.warn()


def _parse(source: str, build_with: tuple[Any, ...], bad_lines: Any, choices: dict[str, Any]) -> None:
    from medground import console
    from medground.cli.report_input import open_reports
    from medground.cli.report_spread import spread
    from medground.reports import repeats

    as_table = choices["output_format"] == "chexpert"
    build = build_table if as_table else build_lines
    with ExitStack() as stack:
        out = stack.enter_context(options.journal(choices["output"], choices["resume"]))
        every = open_reports(stack, source, _columns(choices), bad_lines, keep_empty=as_table)
        reports = choices["shard"].keep(repeats.counted(every, bad_lines.take_record))
        reports = console.progress(out.rest(reports), "parse-reports", start=out.done)
        if as_table and not out.done:
            out.stream.write(_table_header())
            out.stream.flush()  # a forked process would write it again
        results = spread(reports, build, build_with, choices["workers"])
        _write(out, stack.enter_context(closing(results)))


def _write(out: "Journal", results: Iterable[Result]) -> None:
    """Write results in order; count the studies with text that gave no sentence, by reason."""
    counters = {reason: Unparsed(why) for reason, why in UNPARSED.items()}
    for content, unparsed, reports in results:
        before = out.done
        out.add(content, reports)
        out.stream.flush()
        for number, reason in unparsed:
            counters[reason].add(before + number)
    for counter in counters.values():
        counter.warn()


class Unparsed:
    """A counter of reports with text that gave no sentence, for one warning."""

    def __init__(self, why: str):
        self._why, self._first, self._count = why, 0, 0

    def add(self, number: int) -> None:
        """Count one report by its number in the input: its ID may identify a patient."""
        log.info("report %d: %s", number, self._why)
        self._first = self._first or number
        self._count += 1

    def warn(self) -> None:
        """Log the number of reports and the first of them."""
        if self._count:
            log.warning("report %d: %s; %d such in all (-v lists them)", self._first, self._why, self._count)


def _columns(choices: dict[str, Any]) -> Any:
    from medground.reports.input import SECTIONS, Columns

    sections = dict(
        (pair.partition("=")[0].strip(), (pair.partition("=")[2] or pair).strip())
        for pair in (choices["section_columns"] or "").split(",")
        if pair.strip()
    )
    if unknown := sorted(sections.keys() - set(SECTIONS)):
        raise click.BadParameter(
            f"unknown section {unknown[0]!r}; known are {', '.join(SECTIONS)}", param_hint="--section-columns"
        )
    return Columns(choices["text_column"], choices["id_column"], choices["subject_column"], sections)


def build_parser(lexicon: str | None = None, existence_by: str = "rules", *settings: Any) -> Any:
    """Return a parser with a lexicon and the values of `Options`."""
    from medground.reports import lexicon as lexicons
    from medground.reports.parser import Options, Parser

    kind: Callable[..., Parser] = Parser
    if existence_by == "negspacy":
        from medground.reports.negspacy_existence import NegspacyParser

        kind = NegspacyParser
    gc.disable()  # the lexicon is a million small objects without cycles
    parser = kind(lexicons.load(lexicon), Options(*settings))
    gc.freeze()
    gc.set_threshold(OBJECTS)
    gc.enable()
    return parser


def build_lines(*build_with: Any) -> Render:
    """Return a function that turns reports into JSON lines, one per sentence."""
    from medground import jsonl

    parser = build_parser(*build_with)

    def render(reports: Iterable[Any]) -> Result:
        lines = bytearray()  # a list of lines would keep their unused capacity, about 4 kB each
        unparsed: list[tuple[int, str]] = []
        count = 0
        for count, report in enumerate(reports, start=1):
            before = len(lines)
            for line in parser.lines(report):
                lines += jsonl.line_of(line)
            if reason := parser.unparsed(report, len(lines) > before):
                unparsed.append((count, reason))
        return bytes(lines), unparsed, count

    return render


def _table_header() -> bytes:
    from medground.reports.chexpert import HEADER

    return (",".join(HEADER) + "\n").encode()


def build_table(*build_with: Any) -> Render:
    """Return a function that turns reports into CSV rows of the 14 CheXpert labels."""
    from medground import spreadsheet
    from medground.reports.chexpert import to_row

    parser = build_parser(*build_with)

    def render(reports: Iterable[Any]) -> Result:
        lines: list[str] = []
        unparsed: list[tuple[int, str]] = []
        count = 0
        for count, each in enumerate(reports, start=1):
            sentences = parser.parse_report(each)
            row = to_row(each.study_id, each.subject_id, sentences, parser.lexicon.findings)
            lines.append(spreadsheet.line(row))
            if reason := parser.unparsed(each, bool(sentences)):
                unparsed.append((count, reason))
        return "".join(lines).encode(), unparsed, count

    return render
