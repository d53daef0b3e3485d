"""`gptbert prepare-corpus`: what is in the store, what is counted, what is refused."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import sys
import types

import numpy as np
import pytest

from gptbert.cli import main
from gptbert.corpora import prepare as module
from gptbert.corpora import vocabulary
from gptbert.corpora.merge import Seen
from gptbert.corpora.prepare import Request
from gptbert.corpora.report import summary
from gptbert.corpora.units import _encoder
from gptbert.datasets.documents import document_hash, is_held_out
from gptbert.datasets.sentences import split_sentences
from gptbert.errors import UserError
from gptbert.pipeline.instances import has_pairs
from gptbert.pipeline.store import TokenStore
from gptbert.tokenizers import SpecialTokens, load_tokenizer
from tests.tiny_corpus import WORDS, content, prepare, write_corpus, write_vocabulary


@pytest.fixture
def corpus(tmp_path):
    """A vocabulary, and 30 documents in as many files."""
    write_vocabulary(tmp_path / "vocab.txt")
    return write_corpus(tmp_path / "text")


def documents(store):
    """The documents of a store as lists of sentences of ids."""
    tokens = store.read(0, store.tokens).tolist()
    bounds = store.sentence_starts.tolist()
    sentences = [tokens[a:b] for a, b in itertools.pairwise(bounds)]
    ends = store.document_starts.tolist()
    return [sentences[a:b] for a, b in itertools.pairwise(ends)]


def test_the_store_holds_the_documents_in_order(corpus, tmp_path, monkeypatch):
    report = prepare(monkeypatch, tmp_path)
    tokenizer = load_tokenizer(tmp_path / "vocab.txt")
    expected = {"train": [], "heldout": []}
    for path in sorted(corpus.iterdir()):
        text = path.read_text()
        held_out = is_held_out(document_hash(text), 0.2)
        ids = tokenizer.encode_batch(split_sentences(text))
        expected["heldout" if held_out else "train"].append(ids)
    for split, wanted in expected.items():
        store = TokenStore.open(tmp_path / "store", split, tokenizer.fingerprint)
        assert documents(store) == wanted
        assert report[split]["documents"] == store.documents == len(wanted) > 0
        assert report[split]["tokens"] == store.tokens
        assert store.verify() == []
    assert (store.tokenizer_kind, store.vocabulary_size) == ("wordpiece", len(WORDS) + 7)


def test_counts_are_those_of_the_text(corpus, tmp_path, monkeypatch):
    report = prepare(monkeypatch, tmp_path, held_out=0.0)
    texts = [path.read_text().strip() for path in sorted(corpus.iterdir())]
    store = TokenStore.open(tmp_path / "store")
    assert store.words == report["train"]["words"] == sum(len(text.split()) for text in texts)
    assert store.bytes == report["train"]["bytes"] == sum(len(text.encode()) for text in texts)
    lengths = [sum(map(len, document)) for document in documents(store)]
    longest = report["longest_document"]
    assert longest["tokens"] == max(lengths)
    assert f"{lengths.index(max(lengths)):04d}.txt" in longest["name"]


def test_workers_and_portions_do_not_change_a_byte(corpus, tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path, "one", workers=1)
    prepare(monkeypatch, tmp_path, "two", workers=2)
    monkeypatch.setattr("tests.tiny_corpus.PORTION", {"UNIT_BYTES": 50_000, "PIECE_TOKENS": 90})
    prepare(monkeypatch, tmp_path, "other", workers=2)
    one = content(tmp_path / "one")
    assert one == content(tmp_path / "two") == content(tmp_path / "other")
    assert {"train/00000.tokens", "train/00001.tokens", "heldout/00000.index"} <= one.keys()
    assert {"manifest.json", "plan.json", "tokenizer/vocab.txt"} <= one.keys()
    assert not [name for name in one if name.startswith("unfinished")]


def test_a_finished_store_that_was_damaged_since_is_named(corpus, tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path)
    assert prepare(monkeypatch, tmp_path)["train"]["documents"] > 0
    shard = tmp_path / "store" / "train" / "00000.tokens"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"prepared but damaged \(train/00000.tokens .*delete it"):
        prepare(monkeypatch, tmp_path)


def test_duplicates_are_dropped_and_counted(corpus, tmp_path, monkeypatch):
    before = prepare(monkeypatch, tmp_path, "before", format="text")
    shutil.copy(corpus / "0000.txt", corpus / "0001b.txt")
    (corpus / "0020b.txt").write_text((corpus / "0003.txt").read_text().replace("\n", " \n\n"))
    report = prepare(monkeypatch, tmp_path, "after", workers=2, format="text")
    repeated = len((corpus / "0000.txt").read_text().strip())
    assert before["duplicates"] == {"documents": 0, "bytes": 0}
    assert report["duplicates"]["documents"] == 2
    assert report["duplicates"]["bytes"] > repeated
    for split in ("train", "heldout"):
        assert documents(TokenStore.open(tmp_path / "after", split)) == documents(
            TokenStore.open(tmp_path / "before", split)
        )


def test_seen_agrees_with_a_set():
    rng = np.random.default_rng(0)
    seen, known = Seen(), set()
    for _ in range(60):
        # Few first bytes, so that hashes repeat within and between calls; some end in zeros.
        numbers = rng.integers(0, 3000, rng.integers(0, 200))
        hashes = np.array([int(n).to_bytes(16, "little") for n in numbers], "S16")
        expected = [not (n in known or known.add(n)) for n in numbers.tolist()]
        assert seen.add(hashes).tolist() == expected
    lengths = [len(run) for run in seen._runs]
    assert sum(lengths) == len(known)
    assert all(a > 2 * b for a, b in itertools.pairwise(lengths))
    assert sum(run.nbytes for run in seen._runs) == 16 * len(known)


def test_what_is_held_out_depends_on_the_document_alone(corpus, tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path, "all", held_out=0.4)
    for path in sorted(corpus.iterdir())[::2]:
        path.unlink()
    prepare(monkeypatch, tmp_path, "half", held_out=0.4)
    whole = {split: _texts(tmp_path / "all", split) for split in ("train", "heldout")}
    half = {split: _texts(tmp_path / "half", split) for split in ("train", "heldout")}
    assert half["train"] < whole["train"]
    assert half["heldout"] < whole["heldout"]
    assert not whole["train"] & whole["heldout"]


def _texts(store, split):
    return {str(document) for document in documents(TokenStore.open(store, split))}


def test_unknown_tokens_are_counted(tmp_path, monkeypatch):
    write_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("The was xyzzy one.\nPlugh is the one.\n")
    report = prepare(monkeypatch, tmp_path, held_out=0.0)
    assert report["unknown_tokens"] == 2
    assert report["unknown_rate"] == pytest.approx(2 / 10)
    told = summary(report, "store")
    assert "unknown tokens: 2 (20.000%)" in told
    assert "20.0% of the tokens are unknown" in told
    assert "no document is held out" in told


def test_rejects_have_reasons(corpus, tmp_path, monkeypatch, capsys):
    (corpus / "0001.txt").write_text("The one.\n")
    (corpus / "0002.txt").write_bytes(bytes(range(256)) * 40)
    (corpus / "0003.txt").write_text("\N{ZERO WIDTH JOINER} \N{ZERO WIDTH JOINER} " * 5)
    report = prepare(monkeypatch, tmp_path, min_words=3)
    rejects = report["rejects"]
    assert rejects["fewer than 3 words"]["count"] == 1
    assert rejects["no tokens"]["count"] == 1
    assert "0001.txt" in rejects["fewer than 3 words"]["first"][0]
    assert sum(each["count"] for each in rejects.values()) == 3
    assert any("0002.txt" in each["first"][0] for each in rejects.values())
    assert report["train"]["documents"] + report["heldout"]["documents"] == 27
    written = json.loads((tmp_path / "store" / "report.json").read_text())
    assert written == report
    assert written["run"]["megabytes_per_second"] > 0
    assert "not read: 3\n" in summary(report, "store")


@pytest.mark.parametrize(
    ("special", "count"),
    [
        (SpecialTokens(), 1),
        (SpecialTokens(cls=2, sep=3), 1),
        (SpecialTokens(cls=2, sep=3, mask=4), 3),
    ],
)
def test_what_can_be_berts_is_cut_into_sentences(special, count):
    tokenizer = types.SimpleNamespace(
        special=special,
        encode_arrays=lambda texts: [np.array(list(text.encode())) for text in texts],
    )
    text = "The one. They are.\nIt was."
    found = _encoder(tokenizer)(text, "text")
    assert len(found) == count
    whole = text if count == 1 else "The one.They are.It was."
    assert np.concatenate(found).tobytes() == np.array(list(whole.encode())).tobytes()


def test_sentencepiece_keeps_sentences_apart(corpus, tmp_path, monkeypatch):
    """With [CLS], [SEP] and [MASK] it may be BERT's."""
    request = vocabulary.Request(
        "sentencepiece", (str(corpus),), str(tmp_path / "pieces"), size=40, workers=1
    )
    vocabulary.train_vocabulary(request, quiet=True)
    prepare(monkeypatch, tmp_path, tokenizer=str(tmp_path / "pieces"), held_out=0.0)
    store = TokenStore.open(tmp_path / "store")
    tokenizer = load_tokenizer(tmp_path / "pieces")
    texts = [path.read_text() for path in sorted(corpus.iterdir())]
    assert documents(store) == [tokenizer.encode_batch(split_sentences(text)) for text in texts]
    assert has_pairs(store)


def test_an_object_store_takes_it_too(corpus, tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path, "folder")
    prepare(monkeypatch, tmp_path, f"file://{tmp_path}/bucket", workers=2)
    assert content(tmp_path / "bucket") == content(tmp_path / "folder")
    assert not (tmp_path / "bucket" / "unfinished").exists()
    stores = [TokenStore.open(f"file://{tmp_path}/bucket"), TokenStore.open(tmp_path / "folder")]
    assert stores[0].fingerprint == stores[1].fingerprint
    stores[0].save_tokenizer(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint == stores[0].tokenizer_fingerprint


def test_a_finished_store_is_left_alone(corpus, tmp_path, monkeypatch):
    report = prepare(monkeypatch, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.*")}
    again = prepare(monkeypatch, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.*")} == before
    assert again == {name: value for name, value in report.items() if name != "run"}
    # What a kill after the commit left is put away.
    (tmp_path / "store" / "unfinished").mkdir()
    (tmp_path / "store" / "unfinished" / "000000-0000.npz").write_bytes(b"")
    assert prepare(monkeypatch, tmp_path) == again
    assert not (tmp_path / "store" / "unfinished").exists()
    (tmp_path / "store" / "heldout" / "00000.tokens").write_bytes(b"")
    with pytest.raises(UserError, match="heldout/00000.tokens is damaged"):
        prepare(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_a_finished_store_without_its_tokenizer_is_named(corpus, tmp_path, monkeypatch, name):
    prepare(monkeypatch, tmp_path)
    (tmp_path / "store" / "tokenizer" / name).unlink()
    with pytest.raises(UserError, match=rf"tokenizer/{name} is damaged \(missing\); bring back"):
        prepare(monkeypatch, tmp_path)


def test_a_lost_report_is_written_again(corpus, tmp_path, monkeypatch):
    report = prepare(monkeypatch, tmp_path)
    (tmp_path / "store" / "report.json").unlink()
    prepare(monkeypatch, tmp_path)
    again = json.loads((tmp_path / "store" / "report.json").read_text())
    assert again == {name: value for name, value in report.items() if name != "run"}


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_preparation_is_refused_by_name(corpus, tmp_path, monkeypatch, is_finished):
    prepare(monkeypatch, tmp_path)
    if not is_finished:
        (tmp_path / "store" / "manifest.json").unlink()
    refused = {
        "--held_out was 0.2 and is now 0.5": {"held_out": 0.5},
        "--min_words was 0 and is now 2": {"min_words": 2},
        "--format was 'paragraphs' and is now 'auto'": {"format": "auto"},
        r"tokenizer was wordpiece with 21 entries .* is now wordpiece with 9 ": {
            "tokenizer": str(write_vocabulary(tmp_path / "v2" / "vocab.txt", ["the", "of"]))
        },
        "input .*0005.txt is missing": {"inputs": (f"{corpus}/000[0-4].txt",)},
    }
    for message, change in refused.items():
        with pytest.raises(UserError, match=f"another preparation: .*{message}"):
            prepare(monkeypatch, tmp_path, **change)
    (corpus / "0007.txt").write_text("They are one.\n")
    with pytest.raises(UserError, match=r"input .*0007.txt changed since\. Use another --output"):
        prepare(monkeypatch, tmp_path)


def test_a_folder_of_something_else_is_refused(corpus, tmp_path, monkeypatch):
    mine = tmp_path / "store" / "train" / "00000.tokens"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"holds train/00000.tokens but no plan.json"):
        prepare(monkeypatch, tmp_path)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_tells_speed_and_time_left(monkeypatch, terminal):
    told, now = io.StringIO(), [100.0]
    told.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setattr(module, "_LINE_EVERY", 1.0)
    for clock in ("tqdm.std.time", "gptbert.corpora.prepare.time.monotonic"):
        monkeypatch.setattr(clock, lambda: now[0])
    with module._Progress(total=10_000_000, done=2_000_000, quiet=False) as progress:
        for unit, read in ((0, 1_000_000), (1, 4_000_000)):
            now[0] += 2.0
            progress.show(unit, read)
    if terminal:
        assert re.search(r"7.00M/10.0M \[00:04<00:02, 1.\d\dMB/s\]", told.getvalue())
    else:
        assert told.getvalue().endswith("encoded 7 of 10 MB at 1.2 MB/s, 0 min left\n")


def test_quiet_is_quiet_on_a_terminal_too(corpus, tmp_path, monkeypatch):
    told = io.StringIO()
    told.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", told)
    prepare(monkeypatch, tmp_path, "quiet")
    assert told.getvalue() == ""
    monkeypatch.setattr("tests.tiny_corpus.QUIET", False)
    prepare(monkeypatch, tmp_path, "told")
    assert "encode" in told.getvalue() and "write" in told.getvalue()


def test_nothing_to_train_on(corpus, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no documents in the input: 30 fewer than 999 words"):
        prepare(monkeypatch, tmp_path, min_words=999)
    with pytest.raises(UserError, match="all 30 documents fell to the held-out share"):
        prepare(monkeypatch, tmp_path, held_out=1 - 1e-12)
    # Nothing of these is left in the way of a better command.
    assert not list(tmp_path.glob("store/*"))
    assert prepare(monkeypatch, tmp_path)["train"]["documents"] > 0


def test_bad_flags(tmp_path, capsys):
    command = ["prepare-corpus", "--tokenizer=x", "--input=y", "--output=z"]
    cases = {
        "--held_out=1.5: expected a share": ["--held_out=1.5"],
        "expected 0 or more": ["--workers=-1"],
        "unknown argument --heldout (did you mean '--held_out'?)": ["--heldout=1"],
        "no tokenizer at x": [],
    }
    for message, flags in cases.items():
        assert main([*command, *flags]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="expected a share"):
        Request("x", ("y",), "z", held_out=-0.1)


def test_an_output_that_cannot_be_written(corpus, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="--output=.*taken cannot be used"):
        prepare(monkeypatch, tmp_path, "taken")
    assert os.listdir(tmp_path / "text")


def test_a_store_within_its_input_is_no_input(corpus, tmp_path, monkeypatch):
    report = prepare(monkeypatch, tmp_path, "text/store")
    again = prepare(monkeypatch, tmp_path, "text/store")
    assert again["inputs"] == report["inputs"] == {"sources": 30, "bytes": again["inputs"]["bytes"]}
    with pytest.raises(UserError, match="all input lies in --output"):
        prepare(monkeypatch, tmp_path, "text")
