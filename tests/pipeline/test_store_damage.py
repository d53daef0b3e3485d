"""A token store is whole or absent; what is damaged is named before it is believed."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.pipeline.store import TokenStore
from gptbert.pipeline.store_files import LocalFiles, open_files
from gptbert.pipeline.store_format import (
    BLOCK_BYTES,
    MANIFEST,
    PLAN,
    UNFINISHED,
    read_manifest,
    write_manifest,
)
from gptbert.pipeline.store_writer import StoreWriter
from tests.tiny_store import ObjectStore, flip, make_store, random_documents

LONG = [[[i % 100] * 1000] for i in range(3 * BLOCK_BYTES // 2000)]


def test_no_store_there(tmp_path):
    with pytest.raises(UserError, match=r"no token store at .*manifest.json is missing"):
        TokenStore.open(tmp_path / "nothing")


@pytest.mark.parametrize("there", [PLAN, f"{UNFINISHED}/000000-0000.npz"])
def test_an_unfinished_store_says_how_to_go_on(tmp_path, there):
    LocalFiles(str(tmp_path)).write(there, b"x")
    with pytest.raises(UserError, match="unfinished token store; start the .* it continues"):
        TokenStore.open(tmp_path)


def test_without_commit_there_is_no_store(tmp_path):
    make_store(tmp_path, random_documents(5))
    writer = StoreWriter(
        tmp_path,
        tokenizer_kind="bpe",
        tokenizer_fingerprint="",
        vocabulary_size=10,
        shard_tokens=1,
    )
    writer.add("train", np.array([1]), np.array([1]), np.array([1]), words=1, bytes=1)
    assert (tmp_path / "train" / "00000.tokens").stat().st_size == 2
    with pytest.raises(UserError, match="no token store"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize("fetched", [False, True])
def test_a_flipped_bit_is_found_where_it_is_read(tmp_path, fetched):
    make_store(tmp_path, LONG)
    flip(tmp_path / "train" / "00000.tokens", BLOCK_BYTES + 5)
    store = TokenStore.open(f"file://{tmp_path}" if fetched else tmp_path)
    assert store.read(0, 1000).tolist() == [0] * 1000
    message = r"train/00000.tokens is damaged \(checksum of block 1\).*prepare-corpus"
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            store.read(BLOCK_BYTES // 2 - 3, BLOCK_BYTES // 2 + 3)
    assert store.verify() == ["train/00000.tokens (checksum)"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (MANIFEST, r"manifest.json is damaged \((checksum|cut or garbled)\)"),
        ("train/00000.index", r"train/00000.index is damaged \(checksum\)"),
    ],
)
@pytest.mark.parametrize("place", [3, -7])
def test_a_flipped_bit_in_what_is_read_at_once(tmp_path, name, message, place):
    make_store(tmp_path, random_documents(5))
    flip(tmp_path / name, place)
    with pytest.raises(UserError, match=message):
        TokenStore.open(tmp_path)


def test_more_shards_than_files_that_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr("gptbert.pipeline.store.MOST_OPEN", 2)
    documents = random_documents(60)
    store = make_store(tmp_path, documents, shard_tokens=200)
    expected = [token for document in documents for sentence in document for token in sentence]
    assert len(store._shards) > 5
    for _ in range(2):
        np.testing.assert_array_equal(store.read(0, store.tokens), expected)
    assert len(store._blocks._open) == 2


def test_a_file_that_is_cut_while_it_is_used(tmp_path):
    """A mapped file would end the process with a signal."""
    make_store(tmp_path, LONG)
    store = TokenStore.open(tmp_path)
    assert store.read(0, 1000).tolist() == [0] * 1000
    os.truncate(tmp_path / "train" / "00000.tokens", 100)
    with pytest.raises(UserError, match=r"train/00000.tokens is damaged \(cut since it was open"):
        store.read(0, 1000)
    with pytest.raises(UserError, match=r"train/00000.tokens is damaged \(checksum of block 1\)"):
        store.read(BLOCK_BYTES // 2, BLOCK_BYTES // 2 + 3)


@pytest.mark.parametrize("name", ["train/00000.tokens", "train/00000.index"])
def test_cut_and_missing_files_are_found_when_it_is_opened(tmp_path, name):
    make_store(tmp_path, random_documents(5))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1])
    found = rf"{name} is damaged \({len(content) - 1:,} bytes, expected {len(content):,}\)"
    with pytest.raises(UserError, match=found):
        TokenStore.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is damaged \(missing\)"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["tokenizer//tmp/x", "tokenizer/../x", "tokenizer/..", "../x", "/x", "tokenizer/a/b", "a\\b"],
)
def test_a_store_made_to_write_elsewhere_is_refused(tmp_path, name):
    make_store(tmp_path, random_documents(5))
    files = open_files(tmp_path)
    manifest = read_manifest(files)
    manifest["files"][name] = "0" * 64
    write_manifest(files, manifest)
    with pytest.raises(UserError, match="which no token store has; expected one that"):
        TokenStore.open(tmp_path)


def test_a_file_lost_later_is_named_by_verify(tmp_path):
    store = make_store(tmp_path, random_documents(5))
    (tmp_path / "train" / "00000.index").unlink()
    assert store.verify() == ["train/00000.index (missing)"]


def test_another_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("gptbert.pipeline.store_format.FORMAT", 2)
        make_store(tmp_path, [[[1]]])
    with pytest.raises(UserError, match="of format 2; this version reads format 1"):
        TokenStore.open(tmp_path)


def test_no_such_split(tmp_path):
    make_store(tmp_path, [[[1]]])
    with pytest.raises(UserError, match="no split 'dev'"):
        TokenStore.open(tmp_path, "dev")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full: .* bytes needed .*make room"):
        make_store(tmp_path, random_documents(5))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*train"):
        make_store(tmp_path / "file", [[[1]]])


def test_object_stores_without_their_package(monkeypatch):
    import fsspec

    def missing(protocol):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing)
    with pytest.raises(UserError, match="gs://bucket/x cannot be reached: Please install gcsfs"):
        open_files("gs:/bucket/x")  # as pathlib writes it


class Refused(Exception):
    """What a file system of fsspec may raise for a bucket that one may not use."""


@pytest.mark.parametrize(
    ("operation", "act"),
    {"cat_file": "read", "info": "read", "find": "list", "pipe_file": "write", "rm_file": "remove"}
    .items(),
)  # fmt: skip
def test_what_an_object_store_refuses_is_told(tmp_path, monkeypatch, operation, act):
    import fsspec

    def refuse(*arguments, **options):
        raise Refused("Anonymous caller has no access,\n  403")

    make_store(f"file://{tmp_path}/store", [[[1]]])
    files = open_files(f"file://{tmp_path}/store")
    monkeypatch.setattr(type(fsspec.filesystem("file")), operation, refuse)
    use = {
        "cat_file": lambda: TokenStore.open(files),
        "info": lambda: files.size("manifest.json"),
        "find": lambda: files.names("train"),
        "pipe_file": lambda: files.write("train/x", b"1"),
        "rm_file": lambda: files.delete("manifest.json"),
    }
    with pytest.raises(UserError) as error:
        use[operation]()
    told = str(error.value)
    assert told.startswith(f"cannot {act} file://{tmp_path}/store/")
    assert told.endswith(": Anonymous caller has no access, 403")


def test_the_tokenizer_is_copied_out_checked(tmp_path):
    writer = StoreWriter(
        tmp_path / "store", tokenizer_kind="bpe", tokenizer_fingerprint="", vocabulary_size=10
    )
    writer.write_file("tokenizer/vocab.json", b"{}")
    writer.commit()
    store = TokenStore.open(tmp_path / "store")
    store.save_tokenizer(tmp_path / "copy")
    assert (tmp_path / "copy" / "vocab.json").read_bytes() == b"{}"
    flip(tmp_path / "store" / "tokenizer" / "vocab.json")
    with pytest.raises(UserError, match="vocab.json is damaged"):
        store.save_tokenizer(tmp_path / "copy")
    assert store.verify() == ["tokenizer/vocab.json (checksum)"]
    (tmp_path / "store" / "tokenizer" / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"vocab.json is damaged \(missing\); bring back a copy"):
        store.save_tokenizer(tmp_path / "copy")
    assert store.verify() == ["tokenizer/vocab.json (missing)"]
    (tmp_path / "store" / "tokenizer").rmdir()
    with pytest.raises(UserError, match=r"vocab.json is damaged \(missing\)"):
        store.save_tokenizer(tmp_path / "copy")
    with pytest.raises(UserError, match="holds no tokenizer"):
        make_store(ObjectStore(), [[[1]]]).save_tokenizer(tmp_path / "copy")
