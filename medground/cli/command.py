"""Option, Command and Group: click's, with headings in --help, old names of options, -h, -v and -q.

An option states its heading (`group`) and its old names (`old`). Old names are accepted for one release: they
are not in --help, and each use logs one warning that names the new option.
"""

import functools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from medground.cli import paths
from medground.cli.named import write_tables

log = logging.getLogger(__name__)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
FILES, MODEL, DATA, OBJECTIVE, TRAINING, RUN = HEADINGS = (
    "Input and output",
    "Model",
    "Data",
    "Objective",
    "Training",
    "Run",
)


class Option(click.Option):
    """An option with a heading and old names.

    `old` lists old flags. As a mapping it gives the constant that an old flag without a value stands for:
    {"--as-hung": False}. `old_keys` lists further keys that --config accepted.
    """

    def __init__(
        self,
        *args: Any,
        group: str = RUN,
        old: Sequence[str] | Mapping[str, Any] = (),
        old_keys: Sequence[str] = (),
        **attrs: Any,
    ):
        super().__init__(*args, **attrs)
        self.group, self.old, self.old_keys = group, old, old_keys

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Register the option under its own name and, each with a key of its own, under its old names."""
        super().add_to_parser(parser, ctx)
        action = "append" if self.multiple else "store"
        for flag in self.old:
            if isinstance(self.old, Mapping):
                constant = self.old[flag]
                parser.add_option(
                    obj=self, opts=[flag], dest=self._key(flag), action="store_const", const=constant
                )
            elif self.is_flag:
                parser.add_option(
                    obj=self, opts=[flag], dest=self._key(flag), action="store_const", const=True
                )
            else:
                parser.add_option(obj=self, opts=[flag], dest=self._key(flag), action=action)

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Move the value of an old name to the new one; raise UsageError if both are given."""
        used = [flag for flag in self.old if self._key(flag) in opts]
        if used:
            value = opts[self._key(used[0])]
            new = self.flag_for(value)
            if len(used) > 1 or self.name in opts:
                raise click.UsageError(f"{used[0]} is the old name of {new}: give only {new}", ctx)
            log.warning("%s is now %s; the next release removes the old name", used[0], new)
            opts = {**opts, str(self.name): value}
        return super().handle_parse_result(ctx, opts, args)

    def flag_for(self, value: Any) -> str:
        """Return the new flag as one types it instead of an old flag that stands for `value`."""
        if self.is_flag:
            return self.opts[-1] if value or not self.secondary_opts else self.secondary_opts[-1]
        return f"{self.opts[-1]} {value}" if isinstance(self.old, Mapping) else self.opts[-1]

    def keys(self) -> set[str]:
        """Return the keys of this option in --config: its long flags, with _ for -."""
        return {key_of(flag) for flag in self.opts if flag.startswith("--")}

    def old_value(self, key: str, value: Any) -> Any:
        """Return what `value` means under the old config key `key`."""
        constants = dict(self.old) if isinstance(self.old, Mapping) else {}
        by_key = {key_of(flag): constant for flag, constant in constants.items()}
        if key not in by_key or not isinstance(value, bool):
            return value
        if value:
            return by_key[key]
        others = [constant for constant in constants.values() if constant != by_key[key]]
        return others[0] if others else not by_key[key]

    def _key(self, flag: str) -> str:
        return f"{self.name} {flag}"  # no option's own name has a space


option = functools.partial(click.option, cls=Option)


def key_of(flag: str) -> str:
    """Return the config key of a flag: --batch-size is batch_size."""
    return flag.lstrip("-").replace("-", "_")


class Number(click.FloatRange):
    """A float in a range; NaN and infinity are refused."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the float; fail if it is not finite or out of range."""
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return super().convert(number, param, ctx)


class Integer(click.IntRange):
    """A whole number in a range. `largest` bounds it silently; --help shows only `min` and `max`."""

    def __init__(self, min: int, max: int | None = None, largest: int = (1 << 31) - 1):
        super().__init__(min, max)
        self.largest = largest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the integer; fail if it is no whole number or out of range."""
        if isinstance(value, bool | float):  # from --config
            self.fail("expected a whole number", param, ctx)
        number = super().convert(value, param, ctx)
        if number > self.largest:
            self.fail(f"larger than {self.largest}", param, ctx)
        return number


def _set_level(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Set the level of messages on stderr; an option that is not given changes nothing."""
    if value:
        level = logging.ERROR if value is True else max(logging.DEBUG, logging.WARNING - 10 * value)
        logging.getLogger().setLevel(level)


def _verbosity() -> list[click.Parameter]:
    """Return -v and -q."""
    more: dict[str, Any] = {"expose_value": False, "callback": _set_level, "is_eager": True}
    return [
        Option(["-v", "--verbose"], count=True, help="Print more on stderr; -vv adds tracebacks.", **more),
        Option(["-q", "--quiet"], is_flag=True, help="Print only errors on stderr.", **more),
    ]


class Command(click.Command):
    """A command with -h, -v and -q; --help lists options under headings, then the tables that they name."""

    def __init__(self, *args: Any, context_settings: dict[str, Any] | None = None, **attrs: Any):
        attrs["context_settings"] = SETTINGS | (context_settings or {})
        super().__init__(*args, **attrs)
        self.params += _verbosity()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with its outputs checked and its output folders locked."""
        with paths.guarded(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading with its options."""
        rows: dict[str, list[tuple[str, str]]] = {name: [] for name in HEADINGS}
        for each in self.get_params(ctx):
            row = each.get_help_record(ctx) if isinstance(each, click.Option) else None
            if row is not None:
                rows[getattr(each, "group", RUN)].append(row)
        for name, under in rows.items():
            if under:
                with formatter.section(name):
                    formatter.write_dl(under)
        write_tables(self.get_params(ctx), formatter)


class Group(click.Group):
    """A group with -h, -v and -q; it lists its commands in order, and under headings if it has any."""

    command_class = Command
    group_class = type

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Iterable[click.Command]] | None = None,
        context_settings: dict[str, Any] | None = None,
        **attrs: Any,
    ):
        attrs["context_settings"] = SETTINGS | (context_settings or {})
        super().__init__(*args, **attrs)
        self.params += _verbosity()
        self.sections = {name: [*commands] for name, commands in (sections or {}).items()}
        for each in (command for commands in self.sections.values() for command in commands):
            self.add_command(each)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return [*self.commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading with its commands."""
        if not self.sections:
            super().format_commands(ctx, formatter)
            return
        width = max(map(len, self.commands))
        for name, commands in self.sections.items():
            with formatter.section(name):
                limit = formatter.width - 6 - width
                short = [each.get_short_help_str(limit) for each in commands]
                names = [str(each.name).ljust(width) for each in commands]
                formatter.write_dl([*zip(names, short, strict=True)])


command = functools.partial(click.command, cls=Command)


def options_of(commands: Iterable[click.Command]) -> Iterator[Option]:
    """Yield the options of the commands that --config may contain."""
    for each in commands:
        for param in each.params:
            if isinstance(param, Option) and param.expose_value:
                yield param
