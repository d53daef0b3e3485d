"""`--config=FILE.py:ARGUMENT --config.field=value`: configs from files, fields from flags.

The form is that of ml_collections' config flags. Every field can be set; one that does not exist
is answered with the nearest name, one of the wrong type with what was expected.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gptbert.commands.arguments import A_LIST, parse_tuple
from gptbert.errors import UserError, nearest

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def split_config_flags(arguments: list[str]) -> tuple[str | None, list[tuple[str, str]], list[str]]:
    """Separates `--config`, `--config.x=y` and everything else.

    Returns:
      The config's name (None if absent), the pairs (field, text), the remaining arguments.
    """
    name: str | None = None
    fields: list[tuple[str, str]] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument != "--config" and not argument.startswith(("--config=", "--config.")):
            rest.append(argument)
            continue
        flag, found, value = argument.partition("=")
        if not found:
            try:
                value = next(waiting)
            except StopIteration:
                raise UserError(f"{flag} needs a value: {flag}=VALUE") from None
        if flag == "--config":
            name = value
        else:
            fields.append((flag.removeprefix("--config."), value))
    return name, fields, rest


def load_config(name: str | None, fields: list[tuple[str, str]], *, example: str) -> ConfigDict:
    """The config called `FILE.py:ARGUMENT` with the given fields set; raises UserError."""
    if not name:
        raise UserError(f"no config: expected --config=FILE.py[:ARGUMENT], for instance {example}")
    file, _, argument = (name, "", "") if Path(name).is_file() else name.partition(":")
    config = _get_config(find_config(file), argument)
    for field, text in fields:
        set_field(config, field, text)
    return config.lock()


def config_folder() -> Path:
    """Where the configs lie: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def find_config(file: str) -> Path:
    """The path of a config file: as given, or among the configs of this project.

    Raises:
      UserError: There is none, or it is no Python file.
    """
    own = config_folder()
    for path in (Path(file), own / file, own.parent / file):
        if path.is_file():
            if path.suffix != ".py":
                raise UserError(
                    f"config {path} is no Python file; expected --config=FILE.py[:ARGUMENT]"
                )
            return path
    known = sorted(f"configs/{path.name}" for path in own.glob("[a-z]*.py"))
    raise UserError(
        f"config {file!r} was not found{nearest(file, known)}; expected a path or one of "
        f"{', '.join(known)}"
    )


def _get_config(path: Path, argument: str) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(f"gptbert_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _told_in_one_sentence(path, f"config {path} cannot be read"):
        spec.loader.exec_module(module)
    make: Callable[..., ConfigDict] | None = getattr(module, "get_config", None)
    if make is None:
        raise UserError(f"config {path} has no function get_config()")
    parameters = inspect.signature(make).parameters.values()
    if argument and not parameters:
        raise UserError(f"config {path} takes no argument, but ':{argument}' was given")
    if not argument and any(each.default is each.empty for each in parameters):
        raise UserError(f"config {path} needs an argument: --config={path}:ARGUMENT")
    given = repr(argument) if argument else ""
    with _told_in_one_sentence(path, f"config {path}: get_config({given}) fails"):
        config = make(argument) if argument else make()
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError(f"config {path}: get_config() gives {kind}; expected a ConfigDict")
    return config


@contextlib.contextmanager
def _told_in_one_sentence(path: Path, what: str) -> Iterator[None]:
    """Whatever a config file, maybe the user's own, raises, with the line where it happened."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f" (line {lines[-1]})" if lines else ""
        raise UserError(f"{what}: {type(error).__name__}: {error}{where}") from None


def explained_fields(recipe: Path) -> str:
    """The fields that a recipe sets, with their values and comments as they stand there.

    Args:
      recipe: A file of lines `config.NAME = VALUE  # comment`, a comment on a line of its own being
        a heading.
    """
    lines, group = [], ""
    for line in recipe.read_text(encoding="utf-8").split("\n"):
        if heading := re.fullmatch(r"    # (.*)", line):
            lines += ["", f"  {heading[1]}"]
        elif begun := re.fullmatch(r"    config\.(\w+) = ConfigDict\(", line):
            group = f"{begun[1]}."
        elif found := re.fullmatch(r"    config\.(\w+) = (.*?)(?:  # (.*))?", line):
            name, value, comment = found.groups()
            if inner := re.fullmatch(r"ConfigDict\(\{(.*)\}\)", value):
                parts = re.findall(r'"(\w+)": ([^,]+)', inner[1])
                lines += [_field_line(f"{name}.{part}", default, "") for part, default in parts]
            else:
                lines.append(_field_line(name, value, comment or ""))
        elif group and (found := re.fullmatch(r'            "(\w+)": (.*),(?:  # (.*))?', line)):
            lines.append(_field_line(group + found[1], found[2], found[3] or ""))
    return "\n".join(lines)


def _field_line(name: str, value: str, comment: str) -> str:
    # What is unset, or an argument of the recipe, has no value to show.
    value = "" if re.fullmatch(r"placeholder\(\w+\)|[a-z]+", value) else value.strip('"')
    return f"    {f'{name}={value}':<36}  {comment}".rstrip()


def set_field(config: ConfigDict, field: str, text: str) -> None:
    """Sets one field from text, with the type that the config declares for it."""
    *folders, last = field.split(".")
    place = config
    for folder in folders:
        if folder not in place or not isinstance(place.get(folder), ConfigDict):
            raise UserError(_unknown(config, field))
        place = place[folder]
    if last not in place:
        raise UserError(_unknown(config, field))
    if isinstance(place.get(last), ConfigDict):
        inner = ", ".join(f"--config.{field}.{name}" for name in place[last])
        raise UserError(f"--config.{field} is a group; expected one of {inner}")
    place[last] = _parse(field, text, place.get_type(last))


def field_names(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """All settable fields, dotted."""
    for name in config:
        if isinstance(config.get(name), ConfigDict):
            yield from field_names(config[name], f"{prefix}{name}.")
        else:
            yield prefix + name


def _unknown(config: ConfigDict, field: str) -> str:
    known = list(field_names(config))
    return (
        f"unknown config field --config.{field}{nearest(field, known)}; "
        f"this config has {', '.join(known)}"
    )


def _parse(field: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        if kind is tuple:
            return parse_tuple(text)
        return kind(text)
    except (ValueError, KeyError, SyntaxError):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}
        wanted = expected.get(kind, A_LIST)
        raise UserError(f"--config.{field}={text!r}: expected {wanted}") from None
