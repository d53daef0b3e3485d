"""What the parsers of the commands share: errors in one sentence, flags that name a model."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gptbert.errors import UserError, nearest

if TYPE_CHECKING:
    from gptbert.runs.using import Source

A_LIST = "a list such as a,b or ('a','b')"
_ONE_PATTERN = re.compile(r"\([^,'\"]*\|[^,'\"]*\)\S*")  # "(pooler|bert)/": no list


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as `UserError`s and the nearest flag for a misspelt one."""

    def __init__(self, command: str, what: str, epilog: str) -> None:
        super().__init__(
            prog=f"gptbert {command}",
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Called by argparse for whatever it does not understand."""
        raise UserError(f"{message} (`{self.prog} --help` shows what there is)")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parses flags and positional arguments in any order; behind `--` nothing is a flag."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        flags, unknown = self.parse_known_intermixed_args(arguments[:end])
        if texts := arguments[end + 1 :]:
            places = [each.dest for each in self._actions if not each.option_strings]
            if not places:
                self.error(f"{texts[0]!r} behind --, where nothing is expected")
            setattr(flags, places[0], [*getattr(flags, places[0]), *texts])
        if unknown:
            name = unknown[0].split("=")[0]
            known = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"unknown argument {name}{nearest(name, known)}")
        return flags


def add_model_flags(parser: Parser) -> None:
    """`--workdir`, `--init_from`, `--step`: whose weights are used."""
    parser.add_argument("--workdir", type=local_path, metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--init_from", type=local_path, metavar="DIR", help="or a Hugging Face folder with weights"
    )
    parser.add_argument(
        "--step",
        type=int,
        help="a checkpoint of the run; by default the one whose figures results.json states",
    )


def add_compute_flags(parser: Parser) -> None:
    """How texts are labelled; by default as in training."""
    parser.add_argument(
        "--max_length", type=int, help="of a text in tokens; default: that of training"
    )
    parser.add_argument(
        "--compute_dtype", help="float32 or bfloat16; default: that of training, or float32"
    )
    parser.add_argument(
        "--classes",
        type=names,
        default=(),
        metavar="A,B",
        help="names for outputs without names (LABEL_0, LABEL_1), in their order",
    )


def model_folder(flags: argparse.Namespace) -> Path:
    """The one folder that `--workdir` or `--init_from` names; UserError for none or both."""
    if (flags.workdir is None) == (flags.init_from is None):
        found = "no model" if flags.workdir is None else "two models"
        raise UserError(f"{found}: expected either --workdir=RUN or --init_from=DIR")
    if flags.workdir is not None:
        from gptbert.weights.run_folder import read_description

        read_description(flags.workdir)
        return flags.workdir
    return flags.init_from


def tell_unfinished(source: Source) -> None:
    """Says on standard error that the weights are those of a run that has not ended yet."""
    if source.step is not None and not source.results:
        print(
            f"gptbert: {source.folder} is not finished; the weights of step {source.step} are used",
            file=sys.stderr,
        )


def local_path(text: str) -> Path:
    """A file or folder on a disk of this machine, or on one that it shares with others."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text}; expected a path on a local or shared disk (a token store alone may lie at "
            "an address)"
        )
    return Path(text)


def names(text: str) -> tuple[str, ...]:
    """`a,b` or `('a', 'b')` -> ('a', 'b'), as in `--text_columns=premise,hypothesis`."""
    try:
        return tuple(map(str, parse_tuple(text)))
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(f"{text!r}; expected {A_LIST}") from None


def parse_tuple(text: str) -> tuple[Any, ...]:
    """A list as names with commas, or as Python writes it, for names that have commas in them.

    Raises:
      ValueError, SyntaxError: It begins with a bracket and is no list.
    """
    if text.startswith(("(", "[")) and not _ONE_PATTERN.fullmatch(text):
        value = ast.literal_eval(text)
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(part.strip() for part in text.split(",") if part.strip())
