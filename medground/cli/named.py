"""Names in the tables of the registry as values of options."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from medground.registry import Entry, Table


class Named(click.Choice[str]):
    """A name in a table; entries of other packages are looked up when an option is used or described.

    offered: which entries the option offers; all by default. more: what this option offers too.
    """

    def __init__(
        self,
        table: Table[Any],
        offered: Callable[[Any], bool] = lambda entry: True,
        more: Mapping[str, Entry] | None = None,
    ):
        self.table, self.offered, self.more = table, offered, more or {}
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names."""
        return tuple(name for name, _ in self.entries())

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield each name with its entry."""
        yield from ((name, entry) for name, entry in self.table.items() if self.offered(entry))
        yield from self.more.items()


def write_tables(params: list[click.Parameter], formatter: click.HelpFormatter) -> None:
    """Write for each table that the options name a section with its entries."""
    written: list[Table[Any]] = []
    for each in params:
        kind = each.type
        if isinstance(kind, Named) and not any(kind.table is table for table in written):
            written.append(kind.table)
            with formatter.section(f"Values of {each.opts[-1]}"):
                formatter.write_dl([(name, entry.describe()) for name, entry in kind.entries()])
