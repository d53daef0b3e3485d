"""`gptbert predict`: new texts in, labels with probabilities out."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gptbert.commands.arguments import (
    Parser,
    add_compute_flags,
    add_model_flags,
    local_path,
    model_folder,
    names,
    tell_unfinished,
)
from gptbert.errors import UserError

if TYPE_CHECKING:
    from gptbert.runs.predict import Stream
    from gptbert.runs.using import Source

HELP = "label new texts with a finished run"
FORMATS = ("jsonl", "tsv", "csv")

_EPILOG = """\
Texts are typed, or those of --input, or the lines of standard input; plain text has a text a line,
a pair with a tab in between. A line comes out for each text, in their order, as soon as it is
known, so that it works in a pipe and for files of any size: a JSON object, or with --format=tsv
or csv the prediction and a column of probabilities a class, below a line of their names.

examples:
  gptbert predict --workdir=runs/sst2 "a fine film" "a dull one"
  gptbert predict --workdir=runs/mrpc --pair "He left." "He went away."
  gptbert predict --workdir=runs/sst2 --input=new.csv --text_columns=review --output=labels.tsv
  gptbert predict --workdir=runs/sst2 --format=tsv < lines.txt | head
"""


def main(arguments: list[str]) -> int:
    """Writes a line for each text; returns the exit code.

    Raises:
      UserError: No texts, single texts for a model of pairs or the reverse, unreadable input, an
        output that cannot be written.
    """
    flags = _parse(arguments)
    folder = model_folder(flags)
    from gptbert.runs.predict import predict
    from gptbert.runs.using import Classifier, check_compute, read_classifier

    check_compute(flags.max_length, flags.compute_dtype)
    source = read_classifier(folder, step=flags.step, classes=flags.classes)
    stream, count = _texts(flags, source)
    source.check_texts(count)
    tell_unfinished(source)
    with _output(flags) as file:
        classifier = Classifier(
            source, max_length=flags.max_length, compute_dtype=flags.compute_dtype
        )
        total, truncated = predict(classifier, stream, file, flags.format)
        if not total and flags.input not in (None, "-"):
            raise UserError(f"{flags.input}: no texts; expected at least one")
    if truncated:
        limit = classifier.max_length
        cut = f"{truncated:,} of {total:,} texts are longer than {limit} tokens and were cut"
        print(f"gptbert: {cut}", file=sys.stderr)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("predict", HELP, _EPILOG)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="a text to label")
    parser.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar=("A", "B"), help="a pair of texts"
    )
    add_model_flags(parser)
    parser.add_argument("--input", metavar="FILE", help="a file of texts; - for standard input")
    parser.add_argument(
        "--input_format",
        default="",
        metavar="FORMAT",
        help="tsv, csv, jsonl or txt; default: by the name of the file, txt for standard input",
    )
    parser.add_argument(
        "--text_columns",
        type=names,
        default=(),
        metavar="A[,B]",
        help="of the file, ('A, a',) for one with a comma; default: those of training, or sentence",
    )
    add_compute_flags(parser)
    parser.add_argument(
        "--format", choices=FORMATS, help="of the output; default: by its name, or jsonl"
    )
    parser.add_argument(
        "--output", type=local_path, metavar="FILE", help="default: standard output"
    )
    flags = parser.parse(arguments)
    flags.format = _format(flags.format, flags.output)
    given = [name for name in ("text", "pair", "input") if getattr(flags, name)]
    if len(given) > 1:
        parser.error("texts in more than one way; expected TEXT, or --pair, or --input")
    reads_stdin = not given or flags.input == "-"
    if (reads_stdin and sys.stdin is None) or (not given and sys.stdin.isatty()):
        parser.error("no texts; expected TEXT, --pair A B, --input=FILE or lines of standard input")
    return flags


def _format(given: str | None, output: Path | None) -> str:
    """The format of the output; a name that tells another one is refused."""
    told = output.suffix[1:].lower() if output else ""
    if given and told in FORMATS and told != given:
        raise UserError(
            f"--output={output} is the name of a {told} file, but --format={given}; expected a "
            "name and a format that agree, or no --format"
        )
    return given or (told if told in FORMATS else "jsonl")


def _texts(flags: argparse.Namespace, source: Source) -> tuple[Stream, int]:
    """The texts, and how many make one example."""
    from gptbert.runs.predict import from_file, typed

    if flags.text:
        return typed([(text,) for text in flags.text]), 1
    if flags.pair:
        return typed([(first, second) for first, second in flags.pair]), 2
    columns = flags.text_columns or source.text_columns or ("sentence",)
    return from_file(flags.input or "-", columns, flags.input_format), len(columns)


@contextlib.contextmanager
def _output(flags: argparse.Namespace) -> Iterator[BinaryIO]:
    """The output file, which appears when it is complete, or standard output."""
    if flags.output is not None:
        from gptbert.runs.output import whole_file

        _refuse_same(flags.input, flags.output)
        with whole_file(flags.output) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:  # whoever reads, for instance `head`, has seen enough
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"cannot write the output: {error.strerror or error}") from None


def _refuse_same(source: str | None, output: Path) -> None:
    if source and output.exists() and Path(source).exists() and output.samefile(source):
        raise UserError(f"--output={output} is the input; expected another file")
