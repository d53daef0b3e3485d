"""Raw text -> token store, with all cores, in bounded memory, in two passes.

Workers read and encode units of the input and leave the result as pieces in `unfinished/`; then
the pieces, in the order of the input, become shards, duplicates dropped and the held-out share
apart. The result does not depend on how many workers there were, nor on how often the work was
interrupted: the same command goes on behind the last piece. Until the end pieces and shards lie
side by side, together about 0.9 bytes for each byte of text (uint16 ids).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gptbert.corpora import plan as plans
from gptbert.corpora.inputs import read_inputs
from gptbert.corpora.merge import Totals, merge
from gptbert.corpora.rejects import RejectList
from gptbert.corpora.report import build_report
from gptbert.corpora.units import (
    Piece,
    Setup,
    finished_pieces,
    group,
    load_piece,
)
from gptbert.corpora.workers import encode_units
from gptbert.datasets.document_types import TEXT_FIELD
from gptbert.datasets.documents import Source
from gptbert.errors import Interrupted, UserError
from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_files import PARTIAL, Files, open_files
from gptbert.pipeline.store_format import MANIFEST, REPORT, SPLITS, TOKENIZER, UNFINISHED
from gptbert.pipeline.store_writer import StoreWriter
from gptbert.runtime import StopRequest, stop_on_sigterm
from gptbert.tokenizers import Tokenizer, load_tokenizer

UNIT_BYTES = 4_000_000  # of input are given to a worker at once, or one larger file
PIECE_TOKENS = 1 << 21  # and one document more are what it keeps in memory
_LINE_EVERY = 30.0  # seconds between two lines where there is no terminal


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      tokenizer: A folder or file for `load_tokenizer`.
      inputs: Files, folders, globs and archives, as `find_sources` reads them.
      output: The store: a new or empty folder, or one of this command.
      format: How the files are read; `auto` decides for each.
      held_out: The share of the documents that is held out, by their hash.
      min_words: Shorter documents are counted and left out.
      lowercase: Overrides what the tokenizer's files say.
      workers: Processes; 0 for as many as there are cores.
      text_field: The field of JSONL objects that holds the text.
    """

    tokenizer: str
    inputs: tuple[str, ...]
    output: str
    format: str = "auto"
    held_out: float = 0.01
    min_words: int = 0
    lowercase: bool | None = None
    workers: int = 0
    text_field: str = TEXT_FIELD

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held_out={self.held_out}: expected a share from 0 to below 1")
        if self.min_words < 0 or self.workers < 0:
            raise UserError("--min_words and --workers count something; expected 0 or more")

    @property
    def deciding(self) -> dict[str, Any]:
        """The flags that decide what the store will hold.

        The field stands there if it is not the usual one: stores from before it could be named are
        still known as finished.
        """
        flags = {"format": self.format, "held_out": self.held_out, "min_words": self.min_words}
        return flags | ({} if self.text_field == TEXT_FIELD else {"text_field": self.text_field})


def prepare_corpus(request: Request, *, quiet: bool = False) -> dict[str, Any]:
    """Prepares a corpus, or continues, or finds it done; returns the report.

    Raises:
      UserError: Bad input, another preparation in the folder, no documents, a full disk.
      Interrupted: SIGTERM; the same call continues.
      RunFailed: A worker was killed.
    """
    tokenizer = load_tokenizer(request.tokenizer, lowercase=request.lowercase)
    files = open_files(request.output)
    sources = read_inputs(
        request.inputs,
        request.format,
        text_field=request.text_field,
        output=files.path,
        tokenizer=request.tokenizer,
    )
    plan = plans.make_plan(tokenizer, request.deciding, sources)
    with plans.lock(files), stop_on_sigterm() as stop:
        plans.claim(files, plan)
        if files.size(MANIFEST) is not None:
            report = _found_done(files, quiet)
        else:
            began = time.monotonic()
            is_whole = _encode(files, request, tokenizer, group(sources, UNIT_BYTES), stop, quiet)
            since = began if is_whole else None
            report = _merge(files, request, tokenizer, sources, plan, stop, since, quiet)
        for name in files.names(UNFINISHED):
            files.delete(name)
        return report


def _found_done(files: Files, quiet: bool) -> dict[str, Any]:
    """The report of a store that is there; UserError if a file of it is missing, cut or damaged."""
    stores = [TokenStore.open(files, split) for split in SPLITS]
    stores[0].read_beside()
    # An object store would have to be fetched whole; its sizes were checked.
    local = stores if files.has_local_paths else []
    if bad := dict.fromkeys(name for store in local for name in store.verify()):
        raise UserError(
            f"{files.path} is prepared but damaged ({', '.join(list(bad)[:3])}); delete it and "
            "start the same command again"
        )
    report = dict(stores[0].info["report"])
    if files.size(REPORT) is None:  # nobody reads it but people, so it is no reason to stop
        _write_report(files, report)
    if not quiet:
        print(f"{files.path} is already prepared; nothing is done", file=sys.stderr)
    return report


def _write_report(files: Files, report: Mapping[str, Any]) -> None:
    files.write(REPORT, (json.dumps(report, indent=1) + "\n").encode())


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encode(
    files: Files,
    request: Request,
    tokenizer: Tokenizer,
    units: Sequence[tuple[Source, ...]],
    stop: StopRequest,
    quiet: bool,
) -> bool:
    """Has every unit encoded that is not yet, the largest first so that none is left for last.

    Returns whether nothing had been done before.
    """
    pieces, done = finished_pieces(files)
    tasks = [(n, unit, pieces.get(n, [])) for n, unit in enumerate(units) if n not in done]
    tasks.sort(key=lambda task: -_size(task[1]))
    setup = Setup(
        request.tokenizer,
        request.lowercase,
        tokenizer.fingerprint,
        files.path,
        request.held_out,
        request.min_words,
        PIECE_TOKENS,
    )
    total = sum(map(_size, units))
    before = total - sum(_size(unit) for _, unit, _ in tasks)
    try:
        with _Progress(total, before, quiet) as progress:
            for number, read in encode_units(setup, tasks, request.workers or cores(), stop):
                progress.show(number, _size(units[number]) if read is None else read)
    finally:
        _remove_partial(files)
    return not pieces


def _remove_partial(files: Files) -> None:
    """Removes what workers were writing when they were killed; they are gone."""
    for name in files.names(UNFINISHED):
        if name.endswith(PARTIAL):
            with contextlib.suppress(UserError):  # whatever ends the work is told instead
                files.delete(name)


def _merge(
    files: Files,
    request: Request,
    tokenizer: Tokenizer,
    sources: Sequence[Source],
    plan: dict[str, Any],
    stop: StopRequest,
    began: float | None,
    quiet: bool,
) -> dict[str, Any]:
    """Writes the store; with the time that it took, unless some of it was taken before."""
    about: dict[str, Any] = {
        "tokenizer_kind": tokenizer.kind,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocabulary_size": tokenizer.vocabulary_size,
    }
    writer = StoreWriter(files, **about)
    rejected = RejectList(files)
    totals = merge(_pieces(files, stop, quiet), writer, rejected)
    rejected.finish()
    if not totals.kept["train"]["documents"]:
        rejected.withdraw()
        plans.release(files)
        raise UserError(_nothing_to_train_on(totals))
    report = build_report(
        totals,
        rejected,
        {k.removeprefix("tokenizer_"): v for k, v in about.items()},
        {"sources": len(sources), "bytes": sum(source.bytes for source in sources)},
    )
    info = {"plan": plans.digest(plan), "flags": request.deciding, "report": report}
    if began is not None:
        report = report | {"run": _run(report, request, time.monotonic() - began)}
    _write_tokenizer(writer, tokenizer)
    _write_report(files, report)
    writer.commit(info)
    return report


def _pieces(files: Files, stop: StopRequest, quiet: bool) -> Iterator[Piece]:
    """All pieces in the order of the input."""
    pieces, _ = finished_pieces(files)
    for name in tqdm(
        [name for unit in sorted(pieces) for name in pieces[unit]],
        desc="write",
        unit="piece",
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        leave=False,
    ):
        if stop:
            raise Interrupted("stopped on request; the same command continues")
        yield load_piece(files, name)


def _run(report: dict[str, Any], request: Request, seconds: float) -> dict[str, Any]:
    """What differs from run to run."""
    text = report["train"]["bytes"] + report["heldout"]["bytes"] + report["duplicates"]["bytes"]
    return {
        "seconds": seconds,
        "workers": request.workers or cores(),
        "text_bytes": text,
        "megabytes_per_second": text / 1e6 / seconds,
    }


def _write_tokenizer(writer: StoreWriter, tokenizer: Tokenizer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        for path in sorted(Path(folder).iterdir()):
            writer.write_file(f"{TOKENIZER}/{path.name}", path.read_bytes())


def _nothing_to_train_on(totals: Totals) -> str:
    if held := totals.kept["heldout"]["documents"]:
        return f"all {held:,} documents fell to the held-out share; expected a smaller --held_out"
    told = "; ".join(
        f"{count:,} {kind}, for instance {totals.rejects.first[kind][0]}"
        for kind, count in totals.rejects.counts.items()
    )
    return f"no documents in the input{f': {told}' if told else ''}; expected files with text"


def _size(unit: Sequence[Source]) -> int:
    return sum(source.bytes for source in unit)


class _Progress:
    """A bar with MB/s of input and the time left; without a terminal a line now and then."""

    def __init__(self, total: int, done: int, quiet: bool) -> None:
        self._read: dict[int, int] = {}
        self._quiet, self._total, self._start = quiet, total, done
        self._began = self._told = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc="encode",
            unit="B",
            unit_scale=True,
            disable=quiet or not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, unit: int, read: int) -> None:
        """Bytes of one unit that have been read by now."""
        self._bar.update(read - self._read.get(unit, 0))
        self._read[unit] = read
        if self._bar.disable and not self._quiet and time.monotonic() - self._told > _LINE_EVERY:
            self._told = time.monotonic()
            self._line(sum(self._read.values()))

    def _line(self, read: int) -> None:
        rate = max(read, 1) / (self._told - self._began)
        left = (self._total - self._start - read) / rate
        print(
            f"encoded {(self._start + read) / 1e6:,.0f} of {self._total / 1e6:,.0f} MB at "
            f"{rate / 1e6:.1f} MB/s, {left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
