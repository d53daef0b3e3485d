"""How fast text becomes ids and files become a store on this CPU, against what people use.

Question: natural text repeats its words; does a memory of words beat a compiled tokenizer that has
none? Every measurement is a process of its own that begins with empty caches; the contestants take
turns (A B C A B C …), so that a machine whose speed drifts drifts for all; medians over blocks,
ratios of medians over those blocks alone that both took part in, of which there must be 3. Ids must
be identical, or there is no figure.

| contestant | what it does |
| --- | --- |
| gptbert | 2 processes as in `prepare-corpus`, the ids of all lines as arrays in one process |
| gptbert (SentencePiece) | `encode_batch`, which has the library's 2 threads, lists of ids |
| gptbert, 2 processes | SentencePiece on 2 processes, each handing over all its lines at once |
| library | `tokenizers.encode_batch_fast` on its own 2 threads, then `.ids` of each line |
| library, offsets | the same with `encode_batch`, which computes offsets too |
| library, words given | GPT's BPE on text that is split into words before the clock starts |
| sentencepiece | the library's own batch on 2 threads, lists of ids |
| sentencepiece, arrays | the same, arrays of ids |
| Google's method | one core, line by line: basic tokenizer, then greedy WordPiece |
| store | `gptbert prepare-corpus --workers=2` from process start, files to a checked store |

    python experiments/speed/prepare.py time --text=FOLDER --wordpiece=vocab.txt --byte-bpe=DIR
    python experiments/speed/prepare.py report                       # results/prepare.md

Raw results go to results/prepare.jsonl; whole blocks that a machine of the same name has done are
not done again. Nothing else may run on the machine meanwhile. Loading vocabularies, imports and
handing gptbert's processes their halves of the text are not counted, except in `store`; handing
back the ids is. The clock stops when a contestant has its ids in its own form: lists become arrays,
to be compared, after that (method 2; records without a method counted it against the libraries, and
are left out). SentencePiece's method 3 is from where gptbert takes arrays from the library, many
lines at a time, instead of a list for each line; method 4 from where a store keeps sentences apart.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import numpy as np

from gptbert.processor import processor
from gptbert.reports.tables import markdown_table
from gptbert.tokenizers import gpt_words, load_tokenizer

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "prepare.jsonl"
KINDS = ("wordpiece", "bpe", "byte-bpe", "sentencepiece")
CONTESTANTS = {
    "wordpiece": ("gptbert", "library", "library, offsets", "Google's method"),
    "bpe": ("gptbert", "library", "library, offsets", "library, words given"),
    "byte-bpe": ("gptbert", "library", "library, offsets"),
    "sentencepiece": (
        "gptbert, 2 processes",
        "gptbert",
        "sentencepiece",
        "sentencepiece, arrays",
    ),
}
TARGETS = {"wordpiece": 2.5, "bpe": 1.0, "byte-bpe": 1.0, "sentencepiece": 1.0}
PROCESSES = 2
# Of measuring, by kind; records of another are left out.
METHODS = {"wordpiece": 2, "bpe": 2, "byte-bpe": 2, "sentencepiece": 4}
# So many blocks must two contestants share for a ratio.
LEAST_BLOCKS = 3


def versions() -> dict[str, str]:
    """Of Python and of the contestants."""
    names = ("tokenizers", "sentencepiece", "numpy")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}


def records() -> list[dict]:
    """What was measured so far."""
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def append(record: dict) -> None:
    """Adds one measurement."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


def sample(folder: Path, megabytes: float, seed: int, target: Path) -> list[Path]:
    """Writes about so much text, a line a paragraph, from files in a drawn order; returns them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    order = np.random.default_rng(seed).permutation(len(files))
    size, used = 0, []
    with target.open("w", encoding="utf-8") as out:
        for path in (files[n] for n in order):
            used.append(path)
            for line in path.read_text(encoding="utf-8").split("\n"):
                line = " ".join(line.split())
                if line and not line.startswith(("<doc ", "</doc>")):
                    size += out.write(line + "\n")
            if size >= megabytes * 1e6:
                return used
    raise SystemExit(f"{folder} holds {size / 1e6:.1f} MB of text; expected {megabytes}")


# What a contestant is: prepare(folder, lines) -> a function that encodes, giving lists of ids, or
# the ids of all lines and the lengths of the lines as arrays.


def gptbert(folder: str, lines: list[str]):
    """Ours as it is fastest: SentencePiece on the library's threads, the others on processes."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.kind == "sentencepiece":
        return lambda: tokenizer.encode_batch(lines)
    return in_processes(folder, lines)


def in_processes(folder: str, lines: list[str]):
    """Ours on `PROCESSES` processes, each with half of the text; ids come back as arrays."""
    context = multiprocessing.get_context("spawn")
    ends, lengths = [], np.cumsum([len(line) for line in lines])
    bounds = np.searchsorted(lengths, lengths[-1] * np.arange(1, PROCESSES) / PROCESSES)
    for part in np.split(np.arange(len(lines)), bounds):
        ours, theirs = context.Pipe()
        context.Process(target=_encode_part, args=(theirs, folder), daemon=True).start()
        ours.send([lines[n] for n in part])
        ends.append(ours)
    for end in ends:
        assert end.recv() == "ready"

    def encode():
        for end in ends:
            end.send("go")
        parts = [(end.recv_bytes(), end.recv_bytes()) for end in ends]
        ids = np.concatenate([np.frombuffer(part[0], np.uint16) for part in parts])
        return ids, np.concatenate([np.frombuffer(part[1], np.int32) for part in parts])

    encode.child_peaks = lambda: [end.recv() for end in ends]
    return encode


def _encode_part(end, folder: str) -> None:
    tokenizer = load_tokenizer(folder)
    lines = end.recv()
    end.send("ready")
    end.recv()
    found = tokenizer.encode_arrays(lines)
    end.send_bytes(np.concatenate(found).astype(np.uint16).tobytes())
    end.send_bytes(np.array([len(ids) for ids in found], np.int32).tobytes())
    end.send(_peak_kib())


def _peak_kib() -> int:
    """Peak memory of this process; `ru_maxrss` would begin with that of the one that started it."""
    told = Path("/proc/self/status")
    if not told.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(told.read_text().split("VmHWM:")[1].split()[0])


def library(folder: str, lines: list[str], offsets: bool = False, words_given: bool = False):
    """Hugging Face's `tokenizers` on the tokenizer.json that ours writes."""
    os.environ["RAYON_NUM_THREADS"] = str(PROCESSES)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import Tokenizer, normalizers

    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    if words_given:
        lines = [" ".join(gpt_words.words(line)) for line in lines]
        tokenizer.normalizer = normalizers.Sequence([])
    batch = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast

    return lambda: [encoding.ids for encoding in batch(lines, add_special_tokens=False)]


def sentencepiece(folder: str, lines: list[str], arrays: bool = False):
    """Google's `sentencepiece` library by itself."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=os.path.join(folder, "spiece.model"))
    kind = {"return_type": "numpy"} if arrays else {}
    return lambda: processor.encode(lines, num_threads=PROCESSES, **kind)


def google(folder: str, lines: list[str]):
    """BERT's released method, a character at a time, on one core."""
    entries = Path(folder, "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    lowercase = load_tokenizer(folder).rules.lowercase

    def ids(line):
        return [
            vocabulary[p] for word in _basic(line, lowercase) for p in _pieces(word, vocabulary)
        ]

    return lambda: list(map(ids, lines))


def _packed(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.fromiter((i for line in ids for i in line), np.uint16)
    return flat, np.fromiter(map(len, ids), np.int32)


def _basic(text: str, lowercase: bool) -> list[str]:
    """White space and control characters, CJK, case, accents, punctuation: papers A.4.1."""
    cleaned = []
    for character in text:
        code = ord(character)
        if code in (0, 0xFFFD) or _is_control(character):
            continue
        if 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF:
            cleaned += [" ", character, " "]
        else:
            cleaned.append(" " if _is_space(character) else character)
    words: list[str] = []
    for token in "".join(cleaned).split():
        if lowercase:
            decomposed = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words += _split(token)
    return words


def _split(token: str) -> list[str]:
    words, new = [], True
    for character in token:
        if _is_punctuation(character):
            words.append([character])
            new = True
        else:
            if new:
                words.append([])
            new = False
            words[-1].append(character)
    return ["".join(word) for word in words]


def _is_space(character: str) -> bool:
    return character in " \t\n\r" or unicodedata.category(character) == "Zs"


def _is_control(character: str) -> bool:
    return character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cf")


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")


def _pieces(word: str, vocabulary: dict[str, int]) -> list[str]:
    """Greedy longest match first: papers A.4.2."""
    characters = list(word)
    if len(characters) > 200:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(characters):
        end, found = len(characters), None
        while start < end:
            piece = "".join(characters[start:end])
            if start > 0:
                piece = "##" + piece
            if piece in vocabulary:
                found = piece
                break
            end -= 1
        if found is None:
            return ["[UNK]"]
        pieces.append(found)
        start = end
    return pieces


PREPARE = {
    "gptbert": gptbert,
    "gptbert, 2 processes": in_processes,
    "library": library,
    "library, offsets": lambda folder, lines: library(folder, lines, offsets=True),
    "library, words given": lambda folder, lines: library(folder, lines, words_given=True),
    "sentencepiece": sentencepiece,
    "sentencepiece, arrays": lambda folder, lines: sentencepiece(folder, lines, arrays=True),
    "Google's method": google,
}


def contestant(name: str, folder: str, text: str) -> None:
    """One measurement, in this process: prints it as JSON."""
    began = time.perf_counter()
    lines = Path(text).read_text(encoding="utf-8").split("\n")[:-1]
    encode = PREPARE[name](folder, lines)
    ready = time.perf_counter()
    made = encode()
    seconds = time.perf_counter() - ready
    ids, lengths = _packed(made) if isinstance(made, list) else made
    told = hashlib.sha256(ids.astype(np.uint16).tobytes() + lengths.astype(np.int32).tobytes())
    found = {
        "seconds": seconds,
        "setup_seconds": ready - began,
        "tokens": len(ids),
        "lines": len(lengths),
        "ids_sha256": told.hexdigest(),
        "max_rss_kib": _peak_kib(),
    }
    if hasattr(encode, "child_peaks"):
        found["children_max_rss_kib"] = sum(encode.child_peaks())
    print(json.dumps(found))


def measure(name: str, folder: Path, text: Path) -> dict:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "contestant", f"--name={name}"]
    command += [f"--folder={folder}", f"--text={text}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_store(folder: Path, files: list[Path], scratch: Path) -> dict:
    """Files to a store, from process start to its end."""
    inputs = scratch / "files"
    inputs.mkdir(exist_ok=True)
    for number, path in enumerate(files):
        link = inputs / f"{number:05d}{path.suffix}"
        if not link.exists():
            link.symlink_to(path.resolve())
    with tempfile.TemporaryDirectory(dir=scratch) as output:
        command = [sys.executable, "-m", "gptbert", "prepare-corpus", f"--tokenizer={folder}"]
        command += [f"--input={inputs}", f"--output={output}/store", f"--workers={PROCESSES}"]
        began = time.perf_counter()
        subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - began
        report = json.loads(Path(output, "store", "report.json").read_text())
    return {
        "seconds": seconds,
        "tokens": report["train"]["tokens"] + report["heldout"]["tokens"],
        "bytes": report["run"]["text_bytes"],
        "rejects": sum(each["count"] for each in report["rejects"].values()),
    }


def time_all(flags: argparse.Namespace) -> None:
    """Blocks of measurements, the contestants in turn; ids are compared within each kind."""
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        text = scratch / "text.txt"
        files = sample(flags.text, flags.mb, flags.seed, text)
        for kind in KINDS:
            source = getattr(flags, kind.replace("-", "_"))
            if source is None:
                continue
            folder = scratch / kind
            tokenizer = load_tokenizer(source)
            tokenizer.save(folder)
            vocabulary = {"entries": tokenizer.vocabulary_size, "sha256": tokenizer.fingerprint}
            setting = {"kind": kind, "mb": flags.mb, "seed": flags.seed}
            setting |= {"hardware": str(processor()), "method": METHODS[kind]}
            here = [each for each in records() if setting.items() <= each.items()]
            names = (*CONTESTANTS[kind], "store")
            first = 1 + max((each["block"] for each in here), default=-1)
            began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            for block in range(first, first + flags.blocks - _whole_blocks(here, names)):
                # Whoever comes after `store` runs while the disk still writes: not always the same.
                for name in names if block % 2 == 0 else names[::-1]:
                    key = setting | {"contestant": name, "block": block, "began": began}
                    key |= {"vocabulary": vocabulary}
                    _time_one(key, folder, text, files, scratch)


def _time_one(key: dict, folder: Path, text: Path, files: list[Path], scratch: Path) -> None:
    from gptbert.runs.record import git_commit  # imports JAX, which no contestant needs

    if key["contestant"] == "store":
        found = measure_store(folder, files, scratch)
    else:
        found = measure(key["contestant"], folder, text) | {"bytes": text.stat().st_size}
        _require_same_ids(key, found)
    append(key | found | {"versions": versions(), "git_commit": git_commit()})
    speed = found["bytes"] / 1e6 / found["seconds"]
    print(key["kind"], key["block"], key["contestant"], f"{speed:.2f} MB/s", flush=True)


def _together(results: list[dict]) -> list[tuple[int, dict]]:
    """Results, each with the number of the group that was measured in one go.

    A block that was interrupted and filled up later is two groups: what stands between its records
    in the file, or another time of beginning, parts them.
    """
    names = ("hardware", "kind", "mb", "seed", "block", "began")
    groups = itertools.groupby(results, key=lambda r: [r.get(name) for name in names])
    return [(number, each) for number, (_, group) in enumerate(groups) for each in group]


def _whole_blocks(here: list[dict], names: tuple[str, ...]) -> int:
    """How many groups have all the contestants."""
    found: dict[int, set[str]] = {}
    for number, each in _together(here):
        found.setdefault(number, set()).add(each["contestant"])
    return sum(set(names) <= group for group in found.values())


def _require_same_ids(key: dict, found: dict) -> None:
    for record in records():
        same = all(record.get(name) == key[name] for name in ("kind", "mb", "seed", "method"))
        if same and record.get("ids_sha256", found["ids_sha256"]) != found["ids_sha256"]:
            raise SystemExit(
                f"{key['kind']}: ids of {key['contestant']} ({found['tokens']:,}) are not those of "
                f"{record['contestant']} ({record['tokens']:,}); no figure without equal ids"
            )


def report() -> str:
    """A table for each machine, generated from the raw results."""
    header = ["kind", "text MB", "contestant", "blocks", "MB/s (median)", "spread", "tokens/s",
              "gptbert is faster by", "target", "met", "set-up s", "peak MiB"]  # fmt: skip
    lines = [
        "# Preparing text on a CPU",
        "",
        "Generated by `python experiments/speed/prepare.py report` from the raw results. Cold:",
        "each measurement is a process with empty caches. Contestants of a kind give equal ids.",
        f"Ratios are of medians over the blocks that both took part in, {LEAST_BLOCKS} or more; "
        "with fewer there is",
        "no ratio and no verdict. Handing gptbert's processes their halves of the text is not",
        "timed, handing back the ids is. Peak memory is the sum of the peaks of a contestant's",
        "processes.",
        "`store` is timed from process start to the finished store: reading, segmenting, encoding,",
        "hashing, writing.",
        "The library splits text as GPT's code did by more than a hundred regular expressions;",
        "*words given* is its BPE without them. gptbert's figure has the splitting in it.",
        "Of SentencePiece, *2 processes* is what is judged: `prepare-corpus` works so, but hands",
        "the library a document's sentences where this hands it lines, all at once. The other",
        "line of gptbert is the very call that the library's line is: what differs between these",
        "two is the machine, and shows how much a ratio means here. Records of an older method are",
        "in the raw results and left out (see the script): in SentencePiece's, gptbert was slower",
        "than the library, which it had encode line by line, giving lists.",
        "",
    ]
    measured = [record for record in records() if record.get("method") == METHODS[record["kind"]]]
    for machine in sorted({record["hardware"] for record in measured}):
        grouped = [pair for pair in _together(measured) if pair[1]["hardware"] == machine]
        here = [record for _, record in grouped]
        sizes = sorted({record["mb"] for record in here})
        rows = [row for kind in KINDS for mb in sizes for row in _rows(grouped, kind, mb)]
        told = sorted({json.dumps(record["versions"], sort_keys=True) for record in here})
        lines += [f"## {machine}", "", markdown_table(rows, header), ""]
        commits = sorted({record.get("git_commit") or "not recorded" for record in here})
        lines += [f"Versions: {'; '.join(told)}. Commits: {', '.join(commits)}.", ""]
    return "\n".join(lines)


def _rows(grouped: list[tuple[int, dict]], kind: str, mb: float) -> list[list[str]]:
    rows, ours = [], {}
    for name in (*CONTESTANTS[kind], "store"):
        found = [
            (number, r)
            for number, r in grouped
            if (r["kind"], r["mb"], r["contestant"]) == (kind, mb, name)
        ]
        if not found:
            continue
        speeds = {number: r["bytes"] / 1e6 / r["seconds"] for number, r in found}
        # What `prepare-corpus` does is what is judged, not the same call beside itself.
        ours = speeds if name == CONTESTANTS[kind][0] else ours
        target = TARGETS[kind] if name in ("library", "sentencepiece") else None
        told = ("", "")
        if name not in (CONTESTANTS[kind][0], "store"):
            told = _ratio(ours, speeds, target)
        rows.append([
            kind, f"{mb:g}", name, str(len(found)), f"{statistics.median(speeds.values()):.2f}",
            f"{min(speeds.values()):.2f} to {max(speeds.values()):.2f}",
            f"{statistics.median(r['tokens'] / r['seconds'] for _, r in found):,.0f}",
            told[0], f"{target:g}" if target else "", told[1], *_setup([r for _, r in found]),
        ])  # fmt: skip
    return rows


def _ratio(
    ours: dict[int, float], theirs: dict[int, float], target: float | None
) -> tuple[str, str]:
    """How many times faster gptbert is in the shared blocks, and whether that meets the target."""
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < LEAST_BLOCKS:
        return f"{len(shared)} blocks of {LEAST_BLOCKS}", "open" if target else ""
    medians = [statistics.median(side[n] for n in shared) for side in (ours, theirs)]
    ratio = medians[0] / medians[1]
    verdict = "" if target is None else ("met" if ratio >= target else "missed")
    return f"{ratio:.2f}", verdict


def _setup(found: list[dict]) -> tuple[str, str]:
    """Median time of setting up, peak memory of all processes; nothing for a store."""
    if "setup_seconds" not in found[0]:
        return "", ""
    seconds = statistics.median(record["setup_seconds"] for record in found)
    peak = max(r["max_rss_kib"] + r.get("children_max_rss_kib", 0) for r in found)
    return f"{seconds:.1f}", f"{peak / 1024:.0f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("time", "report", "contestant"))
    parser.add_argument("--text", type=Path, help="a folder of UTF-8 text, or a contestant's text")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", help="a tokenizer of this kind (a folder or file)")
    parser.add_argument("--mb", type=float, default=24, help="how much text (%(default)s)")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the order of files")
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.what == "contestant":
        contestant(flags.name, flags.folder, str(flags.text))
    elif flags.what == "report":
        text = report()
        RESULTS.with_suffix(".md").write_text(text)
        print(text)
    elif flags.text is None or not any(getattr(flags, k.replace("-", "_")) for k in KINDS):
        parser.error(
            "timing needs --text=FOLDER and a tokenizer, for instance --wordpiece=vocab.txt"
        )
    else:
        time_all(flags)


if __name__ == "__main__":
    main()
