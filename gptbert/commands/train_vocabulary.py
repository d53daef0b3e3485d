"""`gptbert train-vocabulary`: raw text in, a folder with a vocabulary out."""

from __future__ import annotations

import argparse

from gptbert.commands.arguments import Parser, local_path
from gptbert.errors import UserError

HELP = "learn a vocabulary from raw text"

_EPILOG = """\
Inputs are files, folders, globs and tar archives, as for prepare-corpus. The same text gives the
same files, whatever the number of workers and the order of the inputs. --output gets what Hugging
Face's loaders, `gptbert tokenize` and `gptbert prepare-corpus` read.

--size counts the whole vocabulary:
  wordpiece      5 special tokens, --unused, characters with "##" and without, pieces
  bpe            <unk>, characters with "</w>" and without, the line feed, merges
                 (40478 with the alphabet of 238 gives GPT's 40000 merges)
  byte-bpe       256 bytes, merges, <|endoftext|> (50257 gives GPT-2's 50000 merges)
  sentencepiece  <pad>, <unk>, [CLS], [SEP], [MASK], characters, pieces

examples:
  gptbert train-vocabulary --kind=wordpiece --size=30522 --input='books/**/*.md' --output=bert
  gptbert train-vocabulary --kind=byte-bpe --input=wiki.tar.xz --input=books --output=gpt2
"""


def main(arguments: list[str]) -> int:
    """Trains a vocabulary and prints what came of it; returns the exit code.

    Raises:
      UserError: Bad flags or input, another vocabulary in the folder, a size that the text does
        not allow.
      RunFailed: A worker was killed.
    """
    flags = _parse(arguments)
    from gptbert.corpora.vocabulary import Request, summary, train_vocabulary

    if flags.cased and flags.lowercase:
        raise UserError("--cased and --lowercase exclude each other; expected one of them")
    request = Request(
        kind=flags.kind,
        inputs=tuple(flags.input),
        output=flags.output,
        size=flags.size,
        format=flags.format,
        lowercase=True if flags.lowercase else False if flags.cased else None,
        alphabet=flags.alphabet,
        unused=flags.unused,
        algorithm=flags.algorithm,
        workers=flags.workers,
        text_field=flags.text_field,
    )
    print(summary(train_vocabulary(request, quiet=flags.quiet), request))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("train-vocabulary", HELP, _EPILOG)
    parser.add_argument(
        "--kind", required=True, help="wordpiece (BERT), bpe (GPT), byte-bpe (GPT-2), sentencepiece"
    )
    parser.add_argument(
        "--input", required=True, action="append", metavar="GLOB", help="may be given repeatedly"
    )
    parser.add_argument(
        "--output", type=local_path, required=True, metavar="DIR", help="a new folder"
    )
    parser.add_argument("--size", type=int, help="entries; default: as released, below")
    parser.add_argument("--cased", action="store_true", help="wordpiece: keep case and accents")
    parser.add_argument("--lowercase", action="store_true", help="sentencepiece: fold case")
    parser.add_argument(
        "--alphabet",
        type=int,
        metavar="N",
        help="keep the N most frequent characters, others become unknown; default: 1000 (bpe: "
        "238), for small sizes a twentieth of --size, at least 100",
    )
    parser.add_argument(
        "--unused", type=int, default=0, metavar="N", help="wordpiece: entries [unused0] and so on"
    )
    parser.add_argument(
        "--algorithm", default="unigram", help="sentencepiece: unigram (default) or bpe"
    )
    parser.add_argument("--format", default="auto", help="of all files; default: by their content")
    parser.add_argument(
        "--text_field", default="text", metavar="NAME", help="of JSONL objects (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; default: one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser.parse(arguments)
