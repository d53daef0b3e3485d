"""Raw text -> a vocabulary in a folder that `load_tokenizer` and Hugging Face's loaders read.

The same text gives the same bytes, whatever the number of processes and the order in which files
are named: words are counted per portion of the sorted input, counts are added in that order, and
every tie is settled by name.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gptbert.corpora.inputs import read_inputs
from gptbert.corpora.prepare import cores
from gptbert.corpora.word_counts import Counted, bar, count_sources
from gptbert.datasets.document_types import TEXT_FIELD
from gptbert.errors import UserError, nearest
from gptbert.tokenizers import Tokenizer, load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.bpe_files import write_bpe
from gptbert.tokenizers.files import write_wordpiece
from gptbert.tokenizers.sentencepiece_model import write_sentencepiece
from gptbert.tokenizers.train_bpe import train_bpe, train_byte_bpe
from gptbert.tokenizers.train_merges import Merge, Watch, WrongSize
from gptbert.tokenizers.train_sentencepiece import ALGORITHMS, train_sentencepiece
from gptbert.tokenizers.train_wordpiece import train_wordpiece
from gptbert.tokenizers.train_words import MOST_CHARACTERS

# The sizes of the released vocabularies of BERT, GPT and GPT-2; that of T5's.
SIZES = {"wordpiece": 30_522, "bpe": 40_478, "byte-bpe": 50_257, "sentencepiece": 32_000}
MAX_SIZE = 1_000_000  # a merge learner has a character for each entry; there are 1,114,112
# Distinct words that SentencePiece is given: with a million its unigram model takes many minutes.
SENTENCEPIECE_WORDS = 300_000

_FILES = {
    "wordpiece": ("vocab.txt", "tokenizer.json", "tokenizer_config.json"),
    "bpe": ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    "byte-bpe": ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    "sentencepiece": ("spiece.model", "tokenizer_config.json"),
}
_FEWEST_BYTES = 257
_HOST = socket.gethostname()  # of several that write to one file system
# `model_max_length` of the models that the kinds belong to.
_POSITIONS = {"wordpiece": 512, "bpe": 512, "byte-bpe": 1024, "sentencepiece": 512}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      kind: One of `SIZES`.
      inputs: Files, folders, globs and archives, as `find_sources` reads them.
      output: A new or empty folder, or one with the same vocabulary.
      size: Of the whole vocabulary; None as released.
      format: How the files are read; `auto` decides for each.
      lowercase: None: for wordpiece and bpe, not for the others. GPT's words always are.
      alphabet: How many characters are entries; None: 238 for bpe as released, 1,000 for the
        others, and of small vocabularies a twentieth, but 100. Not for byte-bpe.
      unused: Entries [unusedN] of wordpiece.
      algorithm: Of sentencepiece.
      workers: Processes; 0 for as many as there are cores.
      text_field: The field of JSONL objects that holds the text.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    size: int | None = None
    format: str = "auto"
    lowercase: bool | None = None
    alphabet: int | None = None
    unused: int = 0
    algorithm: str = "unigram"
    workers: int = 0
    text_field: str = TEXT_FIELD

    def __post_init__(self) -> None:
        if self.kind not in SIZES:
            raise UserError(
                f"unknown kind {self.kind!r}{nearest(self.kind, SIZES)}; known: {', '.join(SIZES)}"
            )
        if self.algorithm not in ALGORITHMS:
            hint = nearest(self.algorithm, ALGORITHMS)
            raise UserError(
                f"unknown algorithm {self.algorithm!r}{hint}; known: {', '.join(ALGORITHMS)}"
            )
        if not 1 <= self.entries <= MAX_SIZE:
            raise UserError(f"--size={self.size}: expected a number from 1 to {MAX_SIZE:,}")
        if self.characters < 1 or self.unused < 0 or self.workers < 0:
            raise UserError(
                "--alphabet, --unused and --workers count something; expected 1 or more "
                "characters, 0 or more of the others"
            )
        self._check_case()
        self._check_kind()

    def _check_case(self) -> None:
        if self.kind == "bpe" and self.lowercase is False:
            raise UserError("--cased: GPT's words are lower-case; byte-bpe keeps case")
        if self.kind == "byte-bpe" and self.lowercase:
            raise UserError("--lowercase: GPT-2's vocabulary spells text byte by byte; use bpe")

    def _check_kind(self) -> None:
        """Refuses what the kind would not read."""
        if self.unused and self.kind != "wordpiece":
            raise UserError(f"--unused={self.unused}: only wordpiece has entries [unusedN]")
        if self.algorithm != "unigram" and self.kind != "sentencepiece":
            raise UserError(
                f"--algorithm={self.algorithm}: only sentencepiece has algorithms to choose from; "
                f"expected --kind=sentencepiece, or no --algorithm for {self.kind}"
            )
        if self.kind == "byte-bpe" and self.entries < _FEWEST_BYTES:
            raise UserError(
                f"{self.entries} entries are too few: byte-bpe needs {_FEWEST_BYTES} for the bytes "
                f"and <|endoftext|> alone; expected at least --size={_FEWEST_BYTES}"
            )
        if self.alphabet is not None and self.kind == "byte-bpe":
            raise UserError(
                f"--alphabet={self.alphabet}: byte-bpe spells every character with its 256 bytes; "
                "expected it to be left out"
            )

    @property
    def entries(self) -> int:
        """How many entries the vocabulary is to have."""
        return SIZES[self.kind] if self.size is None else self.size

    @property
    def characters(self) -> int:
        """How many characters are entries."""
        if self.alphabet is not None:
            return self.alphabet
        return min(238 if self.kind == "bpe" else 1000, max(100, self.entries // 20))

    @property
    def rules(self) -> Rules:
        """How text becomes words, for wordpiece."""
        return Rules(lowercase=self.lowercase is not False)


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
      entries: Size of the vocabulary.
      merges: How many merges it has (for wordpiece: took), None for sentencepiece.
      unspelt: Occurrences of words with characters that are not entries.
      counted: What was read.
      written: False if the folder held the same vocabulary already.
    """

    entries: int
    merges: int | None
    unspelt: int
    counted: Counted
    written: bool


def train_vocabulary(request: Request, *, quiet: bool = False) -> Report:
    """Trains a vocabulary and writes it.

    Raises:
      UserError: Bad input, no text, another vocabulary in the folder, a size too small or too
        large for the text, an unwritable folder.
      RunFailed: A worker was killed.
    """
    output = Path(request.output).expanduser().resolve()
    _remove_leftovers(output)
    _check_output(output, request)
    sources = read_inputs(
        request.inputs, request.format, text_field=request.text_field, output=str(output)
    )
    counted = count_sources(
        sources, request.kind, request.rules, workers=request.workers or cores(), quiet=quiet
    )
    if not counted.counts.words:
        raise UserError(_nothing_read(counted))
    save, merges, unspelt = _train(request, counted, quiet)
    written = _place(save, output)
    return Report(request.entries, merges, unspelt, counted, written)


def summary(report: Report, request: Request) -> str:
    """The report for a terminal."""
    return "\n".join(_lines(report, request))


Trained = tuple[Callable[[Path], None], int | None, int]  # writes it; its merges; `unspelt`


def _train(request: Request, counted: Counted, quiet: bool) -> Trained:
    try:
        return _learn(request, counted, quiet)
    except WrongSize as error:
        raise _with_a_size_that_works(error, request, counted) from None


def _with_a_size_that_works(error: WrongSize, request: Request, counted: Counted) -> WrongSize:
    """The error with a size that is not refused in its turn, for its other number of characters."""
    tried, other = request, dataclasses.replace(request, size=error.size)
    while other.characters != tried.characters:
        try:
            _learn(other, counted, quiet=True)
            break
        except WrongSize as again:
            error, tried = again, other
            other = dataclasses.replace(request, size=error.size)
    return error.of(request.entries)


def _learn(request: Request, counted: Counted, quiet: bool) -> Trained:
    if request.kind == "sentencepiece":
        return _train_sentencepiece(request, counted, quiet)
    words, size, alphabet = counted.counts.words, request.entries, request.characters
    length, watch = _POSITIONS[request.kind], _watch(quiet)
    if request.kind == "wordpiece":
        made = train_wordpiece(words, size, alphabet=alphabet, unused=request.unused, watch=watch)
        entries, rules = made.entries, request.rules
        return (
            lambda folder: write_wordpiece(entries, rules, folder, length),
            len(made.merges),
            made.unspelt,
        )
    if request.kind == "bpe":
        made = train_bpe(words, size, alphabet=alphabet, watch=watch)
    else:
        made = train_byte_bpe(words, size, watch=watch)
    ids = {entry: number for number, entry in enumerate(made.entries)}
    return (
        lambda folder: write_bpe(request.kind, ids, made.merges, folder, length),
        len(made.merges),
        made.unspelt,
    )


def _train_sentencepiece(request: Request, counted: Counted, quiet: bool) -> Trained:
    if not quiet:
        print("SentencePiece learns now; it shows no progress", file=sys.stderr, flush=True)
    counted.counts.keep_most(SENTENCEPIECE_WORDS)
    model, unspelt = train_sentencepiece(
        counted.counts.words,
        request.entries,
        algorithm=request.algorithm,
        lowercase=request.lowercase is True,
        alphabet=request.characters,
    )
    length = _POSITIONS[request.kind]
    return lambda folder: write_sentencepiece(model, folder, length), None, unspelt


def _watch(quiet: bool) -> Watch:
    def watch(merges: Iterable[Merge], total: int) -> Iterator[Merge]:
        with bar("learn", total, " entries", quiet) as show:
            for done, merge in enumerate(merges, 1):
                show(done)
                yield merge

    return watch


def _check_output(output: Path, request: Request) -> None:
    """Refuses, before any work, a folder that will not be written to in the end.

    Some files of such a vocabulary, too few to be loaded, may be what the same command left when it
    was killed while it moved them: then what is made decides (`_place`).
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; expected a new or empty folder")
    held = {path.name for path in output.iterdir()} if output.exists() else set()
    if held:
        there = _loaded(output)
        if there is None and not held < set(_FILES[request.kind]):
            raise _another(output)
        if there and (there.kind, there.vocabulary_size) != (request.kind, request.entries):
            raise _another(output)
    home = _home(output)
    if not home.is_dir():
        raise UserError(f"cannot make {output}: {home} is a file; expected a folder")
    if not os.access(home, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {home}: permission denied")


def _home(output: Path) -> Path:
    """Where files are written first: the folder if it can be, else what there is above it."""
    if output.is_dir() and os.access(output, os.W_OK | os.X_OK):
        return output
    return next(place for place in output.parents if place.exists())


def _place(save: Callable[[Path], None], output: Path) -> bool:
    """Writes a new folder beside `output` and moves it there as a whole; False if it is there.

    A folder that is there already may be a mount point, or lie where nothing can be written: what
    it lacks is written below it and moved file by file.
    """
    home = output if _home(output) == output else output.parent
    partial = home / f"{_partial(output)}{os.getpid()}.partial"
    try:
        save(partial)
        load_tokenizer(partial)
        made, there = _contents(partial), _contents(output)
        if not there.items() <= made.items():
            raise _another(output)
        if home != output and not there:
            os.replace(partial, output)
            return True
        for name in sorted(made.keys() - there.keys(), key=_turn):
            os.replace(partial / name, output / name)
        return made != there
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(output: Path) -> str:
    """How the name of a folder begins that will become `output`, or its content."""
    return f".{output.name}.{_HOST}."


def _turn(name: str) -> tuple[bool, str]:
    """When a file is moved: as long as others are missing, loaders find no vocabulary, or all."""
    return name != "tokenizer_config.json", name


def _remove_leftovers(output: Path) -> None:
    """Removes what was left of earlier runs to `output` that were killed on this machine."""
    pattern = f"{glob.escape(_partial(output))}*.partial"
    for path in (*output.glob(pattern), *output.parent.glob(pattern)):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not _is_another_process(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_another_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else ()
    return {path.name: path.read_bytes() for path in files}


def _loaded(output: Path) -> Tokenizer | None:
    """The vocabulary in a folder; None where none can be loaded."""
    try:
        return load_tokenizer(output)
    except UserError:
        return None


def _another(output: Path) -> UserError:
    there = _loaded(output)
    if there is None:
        held = sorted(path.name for path in output.iterdir() if not path.name.endswith(".partial"))
        shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        return UserError(f"{output} holds {shown}; expected a new or empty folder")
    return UserError(
        f"{output} holds another vocabulary ({there.kind}, {there.vocabulary_size:,} entries); "
        "expected a new or empty folder: name another --output or remove this one"
    )


def _nothing_read(counted: Counted) -> str:
    told = "; ".join(
        f"{count:,} {kind}, for instance {counted.rejects.first[kind][0]}"
        for kind, count in counted.rejects.counts.items()
    )
    if counted.counts.too_long:
        long = f"{counted.counts.too_long:,} of more than {MOST_CHARACTERS} characters, left out"
        told = "; ".join(filter(None, (long, told)))
    return f"no words in the input{f': {told}' if told else ''}; expected files with text"


def _lines(report: Report, request: Request) -> Iterator[str]:
    counts = report.counted.counts
    state = "" if report.written else " (was there already, the same)"
    merges = "" if report.merges is None else f", {report.merges:,} merges"
    yield f"{request.output}: {request.kind}, {report.entries:,} entries{merges}{state}"
    yield (
        f"  from {counts.documents:,} documents: {counts.occurrences:,} words, "
        f"{len(counts.words):,} distinct"
    )
    for count, what in (
        (report.unspelt, f"words with a character beyond the {request.characters:,} most frequent"),
        (counts.too_long, f"words of more than {MOST_CHARACTERS} characters"),
        (counts.forgotten, "rare words, to bound memory and time"),
    ):
        if count:
            share = count / (counts.occurrences + counts.forgotten + counts.too_long)
            yield f"  left out: {count:,} ({share:.3%}) {what}"
    for title, tally in (("not read", report.counted.rejects), ("noted", report.counted.notes)):
        if tally.counts:
            yield f"  {title}: {sum(tally.counts.values()):,}"
        for kind, count in sorted(tally.counts.items(), key=lambda item: (-item[1], item[0])):
            yield f"    {count:>8,}  {kind}, for instance {tally.first[kind][0]}"
