"""`gptbert prepare-corpus`: raw text in, a token store out."""

from __future__ import annotations

import argparse

from gptbert.commands.arguments import Parser

HELP = "encode raw text as a token store, for pre-training"

_EPILOG = """\
Inputs are files, folders, globs and tar archives, plain or .gz or .xz: plain text, Markdown and
books, WikiExtractor's output, JSONL, recognised or named by --format. Exact duplicates are dropped,
what cannot be read is counted with its reason, a share of the documents is held out by hash. A
compressed file or an archive is read by one process, large plain files by several. After a kill the
same command continues. STORE/report.json says what came of it, STORE/rejects.jsonl which files were
not read, or not all of them, and why. --output may be gs:// (never tried on a real bucket).

examples:
  gptbert prepare-corpus --tokenizer=vocabulary --input='books/**/*.md' --output=store
  gptbert prepare-corpus --tokenizer=vocabulary --input=wiki.tar.xz --input=books --output=store
"""


def main(arguments: list[str]) -> int:
    """Prepares a corpus and prints its report; returns the exit code.

    Raises:
      UserError: Bad flags or input, another preparation in the folder, a full disk.
      Interrupted: SIGTERM; the same command continues.
    """
    flags = _parse(arguments)
    from gptbert.corpora.prepare import Request, prepare_corpus
    from gptbert.corpora.report import summary

    request = Request(
        tokenizer=flags.tokenizer,
        inputs=tuple(flags.input),
        output=flags.output,
        format=flags.format,
        held_out=flags.held_out,
        min_words=flags.min_words,
        lowercase=False if flags.cased else None,
        workers=flags.workers,
        text_field=flags.text_field,
    )
    print(summary(prepare_corpus(request, quiet=flags.quiet), flags.output))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("prepare-corpus", HELP, _EPILOG)
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="of train-vocabulary")
    parser.add_argument(
        "--input", required=True, action="append", metavar="GLOB", help="may be given repeatedly"
    )
    parser.add_argument("--output", required=True, metavar="STORE", help="a new folder, or gs://")
    parser.add_argument("--format", default="auto", help="of all files; default: by their content")
    parser.add_argument(
        "--held_out", type=float, default=0.01, help="share of the documents (%(default)s)"
    )
    parser.add_argument(
        "--min_words", type=int, default=0, help="leave shorter documents out (%(default)s)"
    )
    parser.add_argument(
        "--cased", action="store_true", help="do not lower-case, whatever the tokenizer says"
    )
    parser.add_argument(
        "--text_field", default="text", metavar="NAME", help="of JSONL objects (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; default: one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser.parse(arguments)
