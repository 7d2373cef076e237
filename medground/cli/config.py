"""--config: values for options from a TOML file, or from a recipe that comes with medground.

A key is the long flag with _ or -. A table named like a command holds keys for that command only. Other keys
are for all commands that have the option, so that one file serves pretrain and finetune.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from medground.cli import paths
from medground.cli.command import FILES, Command, Option, key_of, option, options_of

log = logging.getLogger(__name__)
RECIPES = Path(__file__).resolve().parents[1] / "configs"


def recipes() -> list[str]:
    """Return the names of the recipes that come with medground."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a recipe, or of a path (with / or .toml); raise BadParameter if there is none."""
    path = Path(name)
    if "/" not in name and path.suffix != ".toml":
        if name not in recipes():
            raise click.BadParameter(
                f"no recipe {name!r}; the recipes are {', '.join(recipes())} (write a file with / or .toml)"
            )
        return RECIPES / f"{name}.toml"
    if not path.is_file():
        raise click.BadParameter(f"no such file: {name}")
    return path


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise click.BadParameter(f"{path}: nested too deeply") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of more than 4300 digits
        raise click.BadParameter(f"{path}: {error}") from None


class Keys:
    """The config keys of one command, each with its option or argument."""

    def __init__(self, command: click.Command):
        self.command = str(command.name)
        self.known: dict[str, click.Parameter] = {}
        self.old: dict[str, Option] = {}
        for each in command.params:
            if isinstance(each, click.Argument):
                self.known[str(each.name)] = each
        for each in options_of([command]):
            self.known |= dict.fromkeys(each.keys(), each)
            self.old |= {key: each for key in (*map(key_of, each.old), *each.old_keys)}
            self.old |= {key_of(flag): each for flag in each.secondary_opts}
        self.old = {key: each for key, each in self.old.items() if key not in self.known}

    def __contains__(self, key: str) -> bool:
        return key in self.known or key in self.old

    def take(self, values: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return the values under the names that click uses; log a warning for each old key."""
        taken: dict[str, Any] = {}
        for key, value in values.items():
            each = self.known[key] if key in self.known else self.old[key]
            value = value if key in self.known else self._renamed(self.old[key], key, value, source)
            name, new = str(each.name), _plain(value, each)
            if not _fits(new, each):
                raise click.BadParameter(f"{source}: {key}: expected {_expected(each)}")
            if name in taken:
                raise click.BadParameter(f"{source}: {key} and its old name are both given; keep {name}")
            taken[name] = new
        return taken

    def _renamed(self, each: Option, key: str, value: Any, source: str) -> Any:
        """Return what a value means under an old key, or under the key of a --no-... flag."""
        if key in map(key_of, each.secondary_opts):
            return not value
        new = min(each.keys())
        log.warning("%s: %s is now %s; the next release removes the old key", source, key, new)
        return each.old_value(key, value)


def _plain(value: Any, param: click.Parameter) -> Any:
    """Return a table as the list of NAME=VALUE that click takes, and a single value of a list as a list."""
    if isinstance(value, dict):
        return [f"{name}={each}" for name, each in value.items()]
    return [value] if _takes_list(param) and not isinstance(value, list) else value


def _fits(value: Any, param: click.Parameter) -> bool:
    """Return whether click can convert the value: a text, a number or a flag, or a list of such."""
    if isinstance(value, list):
        return _takes_list(param) and all(isinstance(each, str | int | float) for each in value)
    return isinstance(value, str | int | float)


def _takes_list(param: click.Parameter) -> bool:
    return param.nargs != 1 or (isinstance(param, click.Option) and param.multiple)


def _expected(param: click.Parameter) -> str:
    return "a list of texts or numbers" if _takes_list(param) else "a text, a number, true or false"


def _fill(ctx: click.Context, option: click.Parameter, name: str | None) -> None:
    """Fill this command's defaults from a file or recipe; an option on the command line still wins."""
    if name is None:
        return
    path = ctx.meta[paths.CONFIG] = find(name)
    known = {keys.command: keys for keys in _all_keys(ctx)}
    own = known[str(ctx.command.name)]
    shared: dict[str, Any] = {}
    ctx.default_map = {}
    for key, value in _read(path).items():
        if isinstance(value, dict) and key.replace("_", "-") in known:
            keys = known[key.replace("_", "-")]
            values = _checked(value, [keys], f"{path}: [{key}]")
            if keys is own:
                ctx.default_map |= own.take(values, f"{path}: [{key}]")
        else:
            shared |= _checked({key: value}, [*known.values()], str(path), tables=[*known])
    values = own.take({key: value for key, value in shared.items() if key in own}, str(path))
    ctx.default_map = values | ctx.default_map


def _all_keys(ctx: click.Context) -> Iterator[Keys]:
    """Yield the keys of each command that has --config."""
    root = ctx.find_root().command
    commands = [*root.commands.values()] if isinstance(root, click.Group) else [ctx.command]
    for each in commands:
        if isinstance(each, Command) and any(param.name == "config" for param in each.params):
            yield Keys(each)


def _checked(
    values: Mapping[str, Any], known: list[Keys], source: str, tables: list[str] | None = None
) -> dict[str, Any]:
    """Return the values under keys with _ for -; raise BadParameter for a key that no command has."""
    found: dict[str, Any] = {}
    for written, value in values.items():
        key = written.replace("-", "_")
        if not any(key in keys for keys in known):
            raise click.BadParameter(f"{source}: unknown key {written!r}{_hint(key, known, tables or [])}")
        found[key] = value
    return found


def _hint(key: str, known: list[Keys], tables: list[str]) -> str:
    """Return the nearest known key, or, for one command, all of them."""
    import difflib

    names = sorted({name for keys in known for name in keys.known} | {*tables})
    if near := difflib.get_close_matches(key, names, n=1):
        return f"; did you mean {near[0]!r}?"
    return f"; the keys are {', '.join(names)}" if len(known) == 1 else "; see docs/cli.md for the options"


config = option(
    "--config",
    metavar="NAME|FILE",
    is_eager=True,
    expose_value=False,
    callback=_fill,
    group=FILES,
    help="Recipe or TOML file with values for these options.",
)
