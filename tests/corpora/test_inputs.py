"""What commands read of raw text: the field of JSONL, a sentence a line, never their own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptbert.cli import main
from gptbert.corpora.inputs import read_inputs
from gptbert.corpora.prepare import Request
from gptbert.corpora.vocabulary import Request as VocabularyRequest
from gptbert.corpora.vocabulary import train_vocabulary
from gptbert.errors import UserError
from gptbert.pipeline.store import TokenStore
from tests.tiny_corpus import WORDS, prepare, write_corpus, write_vocabulary


@pytest.fixture
def rows(tmp_path):
    """A vocabulary, and JSONL whose two fields hold other texts."""
    write_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "text").mkdir()
    rows = [{"text": f"It was {word}.", "body": f"They {word} on. It is one."} for word in WORDS]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "text" / "rows.jsonl").write_text(lines)
    return tmp_path / "text" / "rows.jsonl"


def test_the_field_that_is_named_is_read(rows, tmp_path, monkeypatch):
    given = {"format": "auto", "held_out": 0.0}
    usual = prepare(monkeypatch, tmp_path, "usual", **given)
    other = prepare(monkeypatch, tmp_path, "other", text_field="body", **given)
    assert (usual["train"]["words"], other["train"]["words"]) == (3 * 14, 6 * 14)
    assert prepare(monkeypatch, tmp_path, "other", text_field="body", **given)["train"]
    with pytest.raises(UserError, match="--text_field was 'body' and is now left out"):
        prepare(monkeypatch, tmp_path, "other", **given)
    with pytest.raises(UserError, match="--text_field was left out and is now 'body'"):
        prepare(monkeypatch, tmp_path, "usual", text_field="body", **given)


def test_stores_from_before_the_field_could_be_named_are_known() -> None:
    request = Request("x", ("y",), "z")
    assert request.deciding == {"format": "auto", "held_out": 0.01, "min_words": 0}
    assert Request("x", ("y",), "z", text_field="text").deciding == request.deciding


def test_the_commands_know_the_field(rows, tmp_path, capsys):
    read = [f"--input={rows}", "--quiet", "--text_field=body"]
    made = f"--output={tmp_path}/v"
    assert main(["train-vocabulary", "--kind=byte-bpe", "--size=262", made, *read]) == 0
    assert "from 14 documents" in capsys.readouterr().out
    vocabulary = f"--tokenizer={tmp_path}/vocab.txt"
    assert main(["prepare-corpus", vocabulary, f"--output={tmp_path}/s", *read]) == 0
    stores = [TokenStore.open(tmp_path / "s", split) for split in ("train", "heldout")]
    assert sum(store.words for store in stores) == 84
    read[-1] = "--text_field=bdy"
    assert main(["train-vocabulary", "--kind=byte-bpe", f"--output={tmp_path}/w", *read]) == 2
    assert "no text in field 'bdy'" in capsys.readouterr().err
    assert main(["prepare-corpus", vocabulary, f"--output={tmp_path}/t", *read]) == 2
    assert "no text in field 'bdy'" in capsys.readouterr().err


def test_a_sentence_a_line_stays_one_in_lower_case(tmp_path, monkeypatch):
    write_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "text").mkdir()
    lines = [f"{a} {b} is on" for a in WORDS for b in [*WORDS, "one was"]][:200]
    blocks = ["\n".join(lines[n : n + 5]) for n in range(0, 200, 5)]
    (tmp_path / "text" / "a.txt").write_text("\n\n".join(blocks))
    prepare(monkeypatch, tmp_path, held_out=0.0)
    store = TokenStore.open(tmp_path / "store")
    assert (store.documents, len(store.sentence_starts) - 1) == (40, 200)
    prepare(monkeypatch, tmp_path, "whole", held_out=0.0, format="text")
    # Elsewhere a line that breaks off goes on in the next, as in hard-wrapped text.
    assert len(TokenStore.open(tmp_path / "whole").sentence_starts) - 1 == 40


def test_a_vocabulary_within_its_input_is_no_input(tmp_path):
    texts = write_corpus(tmp_path / "text")
    request = VocabularyRequest(
        "wordpiece", (str(texts),), str(texts / "made"), size=40, workers=1, alphabet=30
    )
    first = train_vocabulary(request, quiet=True)
    again = train_vocabulary(request, quiet=True)
    assert first.written and not again.written
    assert first.counted.counts.documents == again.counted.counts.documents == 30
    with pytest.raises(UserError, match="all input lies in --output"):
        read_inputs([str(texts / "made")], "auto", text_field="text", output=str(texts))


def test_a_tokenizer_within_the_input_is_no_input(tmp_path, monkeypatch):
    texts = write_corpus(tmp_path / "text")
    write_vocabulary(texts / "vocabulary" / "vocab.txt")

    def found(*patterns: Path | str, tokenizer: Path = texts / "vocabulary") -> int:
        names = [str(pattern) for pattern in patterns]
        given = {"text_field": "text", "output": str(tmp_path / "s"), "tokenizer": str(tokenizer)}
        return len(read_inputs(names, "auto", **given))

    assert found(texts) == found(texts / "**") == found(texts / "**/*.txt") == 30
    assert found(texts, tokenizer=texts / "vocabulary/vocab.txt") == 30
    monkeypatch.chdir(tmp_path)
    assert found("**/*.txt") == found("text") == 30
    # What a pattern names is read, though it lies beside a vocabulary.
    assert found(texts, texts / "vocabulary") == found(texts, texts / "vocabulary/*") == 31
    assert found(texts, tokenizer=tmp_path) == 31
    assert found(texts / "vocabulary/v*") == 1


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bpe", {"unused": 5}, "--unused=5: only wordpiece has entries"),
        ("sentencepiece", {"unused": 5}, "--unused=5: only wordpiece has entries"),
        ("wordpiece", {"algorithm": "bpe"}, "--algorithm=bpe: only sentencepiece"),
        ("byte-bpe", {"algorithm": "bpe"}, "--algorithm=bpe: only sentencepiece"),
        ("byte-bpe", {"alphabet": 300}, "--alphabet=300: byte-bpe spells every character"),
    ],
)
def test_flags_that_a_kind_does_not_read_are_refused(kind, change, message) -> None:
    with pytest.raises(UserError, match=message):
        VocabularyRequest(kind, ("x",), "y", **change)
    read = {"unused": "wordpiece", "algorithm": "sentencepiece", "alphabet": "bpe"}
    VocabularyRequest(read[next(iter(change))], ("x",), "y", **change)
