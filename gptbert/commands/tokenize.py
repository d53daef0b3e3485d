"""`gptbert tokenize`: the pieces or ids of texts, one line out for each line in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gptbert.commands.arguments import Parser
from gptbert.datasets.document_types import UTF8_MARK
from gptbert.datasets.lines import DAMAGE, damaged, open_file
from gptbert.errors import UserError
from gptbert.tokenizers import load_tokenizer
from gptbert.weights.folders import tokenizer_beside

HELP = "show the pieces, or their ids, of texts"

_EPILOG = """\
Texts are the arguments, else the lines of --input, else those of standard input. Only a line feed
ends a line, an empty line gives an empty line, and special tokens are not added: "[MASK]" in a text
is split like any text. Pieces are shown as the vocabulary spells them: "##" continues a word
(WordPiece), "</w>" ends one (GPT), U+0120 is a space (GPT-2), and so is U+2581 (SentencePiece); a
line feed within a piece is shown as \\n.

example:
  printf '%s\\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' play '##ing' '!' > tiny.txt
  gptbert tokenize --tokenizer=tiny.txt 'Playing!'
"""


def main(arguments: list[str]) -> int:
    """Prints one line for each text; returns the exit code.

    Raises:
      UserError: No tokenizer there, or a line of the input is not UTF-8.
    """
    parser = _parser()
    flags = parser.parse(arguments)
    if flags.text and flags.input is not None:
        parser.error("argument --input: not allowed with TEXT")
    tokenizer = load_tokenizer(
        tokenizer_beside(flags.tokenizer), lowercase=False if flags.cased else None
    )
    out = sys.stdout.buffer
    try:
        for text in _texts(flags.text, flags.input):
            pieces = map(str, tokenizer.encode(text)) if flags.ids else tokenizer.tokenize(text)
            out.write(" ".join(pieces).replace("\n", "\\n").encode() + b"\n")
            # A program at the other end may wait for this line before it sends the next.
            out.flush()
    except BrokenPipeError:  # whoever reads, for instance `head`, has seen enough
        _discard_output()
    except OSError as error:
        _discard_output()
        raise UserError(f"cannot write the output: {error.strerror}") from error
    return 0


def _parser() -> Parser:
    parser = Parser("tokenize", HELP, _EPILOG)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="a text; each gives a line")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR|FILE",
        help="a folder of any kind (vocab.txt, tokenizer.json, vocab.json and merges.txt, "
        "spiece.model), one of its files, or the folder of a run",
    )
    parser.add_argument(
        "--cased", action="store_true", help="WordPiece: do not lower-case, whatever the files say"
    )
    parser.add_argument("--ids", action="store_true", help="print ids instead of pieces")
    parser.add_argument("--input", metavar="FILE", help="read the lines of a file, also .gz or .xz")
    return parser


def _texts(texts: list[str], path: str | None) -> Iterator[str]:
    if not texts:
        return _lines(path)
    # What is not UTF-8 on the command line arrives as surrogates; they give its bytes back.
    raw = (text.encode(errors="surrogateescape") for text in texts)
    return _decoded(raw, "TEXT", "argument")


def _lines(path: str | None) -> Iterator[str]:
    name = "standard input" if path is None else path
    if path is None and sys.stdin is None:
        raise UserError("standard input is closed; expected TEXT, --input=FILE or lines there")
    try:
        if path is None:
            yield from _decoded(_without_ends(sys.stdin.buffer), name, "line")
        else:
            with open_file(Path(path)) as file:
                yield from _decoded(_without_ends(file), name, "line")
    except DAMAGE as error:
        raise damaged(name, error) from error
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error


def _without_ends(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their line feeds, the first one without a byte order mark."""
    for number, line in enumerate(lines):
        yield (line if number else line.removeprefix(UTF8_MARK)).removesuffix(b"\n")


def _decoded(lines: Iterable[bytes], source: str, unit: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{source}, {unit} {number}: byte 0x{line[error.start]:02x} (byte "
                f"{error.start + 1} of the {unit}) is not UTF-8; expected UTF-8 text (if it is "
                "Latin-1: iconv -f LATIN1 -t UTF-8)"
            ) from None


def _discard_output() -> None:
    """Points standard output at nothing, so that what is buffered fails no second time at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
