"""Every rejected file is listed with its reason, in bounded memory, however the work was cut."""

from __future__ import annotations

import json
import random

import pytest

from gptbert.corpora import rejects as module
from gptbert.corpora.rejects import Grouping, RejectList, Row
from gptbert.corpora.report import summary
from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_files import open_files
from tests.tiny_corpus import content, prepare, write_corpus, write_vocabulary


def rows_of(store):
    """The list of a store."""
    return [json.loads(line) for line in (store / "rejects.jsonl").read_text().splitlines()]


def test_every_rejected_file_is_listed(tmp_path, monkeypatch):
    write_vocabulary(tmp_path / "vocab.txt")
    text = write_corpus(tmp_path / "text")
    for number in range(8):
        (text / f"rubbish{number}.txt").write_bytes(bytes(range(256)) * 9)
    (text / "caf\u00e9.txt").write_bytes(
        b"The one.\n\nThe \0.\n\nThe \xff.\n\nThe \0.\n\nIt was one of the two.\n"
    )
    report = prepare(monkeypatch, tmp_path, min_words=3)
    rows = rows_of(tmp_path / "store")
    place = f"{text}/caf\u00e9.txt"
    assert rows[:3] == [
        {
            "file": place,
            "reason": "fewer than 3 words",
            "count": 1,
            "first": f"{place} (1)",
        },
        {"file": place, "reason": "a NUL byte", "count": 2, "first": f"{place}:3"},
        {"file": place, "reason": rows[2]["reason"], "count": 1, "first": f"{place}:5"},
    ]
    assert rows[2]["reason"].startswith("not UTF-8 (byte 0xff")
    assert [row["file"] for row in rows[3:]] == [f"{text}/rubbish{n}.txt" for n in range(8)]
    assert {row["reason"] for row in rows[3:]} == {"binary data, not text"}
    assert sum(row["count"] for row in rows) == sum(
        each["count"] for each in report["rejects"].values()
    )
    assert report["rejected"] == {"files": 9, "listed_in": ["rejects.jsonl"]}
    told = summary(report, "store")
    assert "each file with its reason: store/rejects.jsonl\n" in told


def test_the_list_is_no_part_of_the_store(tmp_path, monkeypatch):
    write_vocabulary(tmp_path / "vocab.txt")
    text = write_corpus(tmp_path / "text")
    report = prepare(monkeypatch, tmp_path, "without")
    assert report["rejected"] == {"files": 0, "listed_in": []}
    assert "each file with its reason" not in summary(report, "without")
    assert not (tmp_path / "without" / "rejects.jsonl").exists()
    (text / "rubbish.txt").write_bytes(bytes(99))
    prepare(monkeypatch, tmp_path, "with")
    stores = [TokenStore.open(tmp_path / name) for name in ("without", "with")]
    assert stores[0].fingerprint == stores[1].fingerprint
    (tmp_path / "with" / "rejects.jsonl").unlink()
    prepare(monkeypatch, tmp_path, "with")  # a finished store stays finished


def test_workers_and_portions_do_not_change_the_list(tmp_path, monkeypatch):
    write_vocabulary(tmp_path / "vocab.txt")
    text = write_corpus(tmp_path / "text", 9)
    documents = [f"{path.read_text()}\nThe \0.\n" for path in sorted(text.iterdir())]
    (text / "0003b.txt").write_text("\n".join(documents * 3))
    prepare(monkeypatch, tmp_path, "one")
    monkeypatch.setattr("tests.tiny_corpus.PORTION", {"UNIT_BYTES": 50_000, "PIECE_TOKENS": 9})
    prepare(monkeypatch, tmp_path, "other", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "other")
    (row,) = rows_of(tmp_path / "other")
    assert row["count"] == 27


def test_groups_may_be_cut_anywhere():
    draw = random.Random(0)
    files = ("a", "a", "a", "b", "b", "a", "c")
    cases = [Row(f, draw.choice(["x (1)", "x (2)", "y"]), 1, f"{n}") for n, f in enumerate(files)]
    whole = grouped([cases])
    assert [(row.file, row.kind) for row in whole if row.file == "c"] == [("c", whole[-1].kind)]
    assert sum(row.count for row in whole) == len(cases)
    for first in range(len(cases)):
        for second in range(first, len(cases)):
            parts = [cases[:first], cases[first:second], cases[second:]]
            assert grouped([grouped([part]) for part in parts]) == whole


def grouped(parts):
    """The rows of several portions."""
    grouping = Grouping()
    done = [row for part in parts for case in part for row in grouping.add(case)]
    return [*done, *grouping.rest()]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_long_list_goes_on_in_further_files(tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(module, "FILE_BYTES", 200)
    place = open_files(f"{scheme}{tmp_path}/store")
    listed = RejectList(place)
    cases = [Row(f"{number}", "a NUL byte", 1, f"{number}:1") for number in range(9)]
    for case in cases:
        listed.add([case])
    listed.finish()
    assert listed.files == 9 and listed.names[:2] == ["rejects.jsonl", "rejects-2.jsonl"]
    texts = [place.read(name) for name in listed.names]
    assert max(map(len, texts)) <= 200
    assert [Row(**json.loads(line)) for text in texts for line in text.splitlines()] == cases
    listed.withdraw()
    assert not list((tmp_path / "store").iterdir())


def test_what_cannot_be_spelt_is_escaped(tmp_path):
    listed = RejectList(open_files(tmp_path))
    listed.add([Row("a\ud800", "why", 1, "a")])
    listed.finish()
    assert rows_of(tmp_path)[0]["file"] == "a\ud800"
