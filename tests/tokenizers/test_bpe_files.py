"""Vocabularies of GPT's and GPT-2's kind on disk: what is read, refused, written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import bpe_json, load_tokenizer
from gptbert.tokenizers.bpe import GptBpe
from gptbert.tokenizers.bpe_files import NAMES, read_bpe, write_bpe
from gptbert.tokenizers.byte_bpe import ByteBpe
from tests.tokenizers import tiny_bpe

FILES = ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(params=["bpe", "byte-bpe"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> GptBpe | ByteBpe:
    made = tiny_bpe.gpt(20) if request.param == "bpe" else tiny_bpe.gpt2(20)
    made.save(tmp_path / "folder", max_length=77)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "folder"


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_save_and_load_are_one(saved: GptBpe | ByteBpe, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for names in ([], ["merges.txt"], ["tokenizer.json"], ["merges.txt", "vocab.json"]):
        for name in names:
            (folder / name).rename(folder.parent / name)
        if names != ["merges.txt"]:
            loaded = load_tokenizer(folder)
            assert (loaded.kind, loaded.fingerprint) == (saved.kind, saved.fingerprint)
        for name in names:
            (folder.parent / name).rename(folder / name)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 77


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_every_pair_of_names_by_folder_and_by_file(
    saved: GptBpe | ByteBpe, folder: Path, names: tuple[str, str]
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").rename(folder / names[0])
    (folder / "merges.txt").rename(folder / names[1])
    for path in (folder, folder / names[0], folder / names[1], str(folder)):
        assert load_tokenizer(path).fingerprint == saved.fingerprint


def test_a_file_is_read_alone(saved: GptBpe | ByteBpe, folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda content: content["model"].update(merges=[]))
    assert load_tokenizer(folder / "vocab.json").fingerprint == saved.fingerprint
    assert load_tokenizer(folder / "tokenizer.json").fingerprint != saved.fingerprint
    with pytest.raises(UserError, match=r"different merges, from merge 1 on \(of 20 and 0\)"):
        load_tokenizer(folder)


def test_merges_as_others_write_them(saved: GptBpe | ByteBpe, folder: Path) -> None:
    def joined(content: dict[str, Any]) -> None:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        del content["model"]["ignore_merges"], content["model"]["byte_fallback"]

    edit(folder / "tokenizer.json", joined)
    text = (folder / "merges.txt").read_text(encoding="utf-8").partition("\n")[2]
    (folder / "merges.txt").write_text(text.replace("\n", "\r\n"), encoding="utf-8")
    assert load_tokenizer(folder).fingerprint == saved.fingerprint


def test_first_merge_may_look_like_a_comment(tmp_path: Path) -> None:
    vocabulary, _ = tiny_bpe.gpt2_files(0)
    merges = [("#", "#"), ("##", "#")]
    size = len(vocabulary)
    write_bpe("byte-bpe", {**vocabulary, "##": size, "###": size + 1}, merges, tmp_path, 9)
    assert load_tokenizer(tmp_path / "merges.txt").tokenize("#####") == ["##", "###"]
    assert read_bpe(tmp_path)[2] == merges


def test_special_added_tokens_are_entries(saved: GptBpe | ByteBpe, folder: Path) -> None:
    size = saved.vocabulary_size
    added = {"id": size, "content": "<s>", "special": True}
    edit(folder / "tokenizer.json", lambda content: content["added_tokens"].append(added))
    assert load_tokenizer(folder).vocabulary_size == size + 1
    assert load_tokenizer(folder).decode([size]) == "<s>"


def test_transformers_stand_in_for_gpt_is_read_as_gpt(tmp_path: Path) -> None:
    tiny_bpe.gpt(20).save(tmp_path)
    bert = {"type": "BertNormalizer", "lowercase": True, "clean_text": True, "strip_accents": None}

    def stand_in(content: dict[str, Any]) -> None:
        content |= {"normalizer": bert, "pre_tokenizer": {"type": "BertPreTokenizer"}}

    edit(tmp_path / "tokenizer.json", stand_in)
    assert load_tokenizer(tmp_path).fingerprint == tiny_bpe.gpt(20).fingerprint


def put(*keys: str, value: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("gpt2", put("model", "dropout", value=0.1), "dropout of the model is 0.1; expected 0.0"),
        ("gpt2", put("model", "byte_fallback", value=True), "byte_fallback of the model is true"),
        ("gpt2", put("model", "ignore_merges", value=True), "ignore_merges of the model is true"),
        ("gpt", put("model", "fuse_unk", value=True), "fuse_unk of the model is true"),
        ("gpt2", put("model", "continuing_subword_prefix", value="##"), 'subword_prefix.* "##"'),
        ("gpt", put("model", "end_of_word_suffix", value="@@"), 'end_of_word_suffix is "@@"'),
        ("gpt2", put("normalizer", value={"type": "NFC"}), 'normalizer is of type "NFC"; expected'),
        ("gpt2", put("pre_tokenizer", value=None), "pre_tokenizer is of type null; expected"),
        ("gpt2", put("pre_tokenizer", "type", value="Split"), 'is of type "Split"; expected Byte'),
        ("gpt2", put("pre_tokenizer", "add_prefix_space", value=True), "add_prefix_space .* true"),
        ("gpt2", put("pre_tokenizer", "use_regex", value=False), "use_regex of the .* is false"),
        ("gpt", put("normalizer", value=None), "normalizer null and pre_tokenizer .* not those"),
        ("gpt", put("pre_tokenizer", value={"type": "Whitespace"}), 'pre_tokenizer "Whitespace"'),
        ("gpt2", put("model", "merges", value=None), "merges are null; expected a list"),
        ("gpt2", put("model", "merges", value=["a b c"]), 'merge 1 is "a b c"; expected two'),
        ("gpt2", put("model", "merges", value=[["a"]]), r'merge 1 is \["a"\]; expected two'),
        ("gpt2", put("model", "merges", value=[["a", ""]]), r'merge 1 is \["a", ""\]'),
        ("gpt2", put("model", "merges", value=[["a", "xx"]]), "but 'xx' is no entry of the voc"),
        ("gpt2", put("model", "vocab", "a", value=9999), "'b' has id 98 where 97 was expected"),
        ("gpt2", put("model", "vocab", "a", value="7"), "'a' has id \"7\"; expected a number"),
        ("gpt2", put("model", "vocab", "a", value=True), "'a' has id true; expected a number"),
        ("gpt2", put("model", "vocab", value=[]), r"vocab is \[\]; expected an object"),
        ("gpt2", put("added_tokens", value=[{"id": 1, "content": "a"}]), "has id 1, but"),
        ("gpt2", put("added_tokens", value=[{"id": 300, "content": "x y"}]), "matched before all"),
        ("gpt2", put("model", "type", value="Unigram"), 'tokenizer of type "Unigram"; expected'),
        ("gpt2", put("model", value=None), "model is null; expected an object"),
    ],
)
def test_refuses_tokenizer_json(tmp_path: Path, kind: str, change: Change, message: str) -> None:
    (tiny_bpe.gpt if kind == "gpt" else tiny_bpe.gpt2)(20).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    edit(path, change)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "normalizer"), [("gpt", "ByteLevel"), ("gpt2", "BertPreTokenizer")]
)
def test_refuses_the_rules_of_the_other_kind(tmp_path: Path, kind: str, normalizer: str) -> None:
    (tiny_bpe.gpt if kind == "gpt" else tiny_bpe.gpt2)(20).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    edit(path, put("pre_tokenizer", value={"type": normalizer}))
    with pytest.raises(UserError, match=f'pre_tokenizer.* "{normalizer}"'):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.json", "", "vocab.json is not JSON"),
        ("vocab.json", '{"a": 0, "b', "vocab.json is not JSON"),
        ("vocab.json", '["a"]', "holds a JSON list; expected an object"),
        ("vocab.json", "{}", "is empty; expected a vocabulary"),
        ("vocab.json", '{"a": 0, "a": 1}', "'a' stands there twice"),
        ("vocab.json", '{"a": 0, "b": 2}', "'b' has id 2 where 1 was expected"),
        ("vocab.json", '{"a": 0, "b": 0}', "'b' has id 0 where 1 was expected"),
        ("vocab.json", '{"a": 0, "b": 1.0}', "'b' has id 1.0; expected a number"),
        ("vocab.json", '{"a": 0, "\\ud800": 1}', "half a surrogate pair"),
        ("vocab.json", '{"a": 0}', "merge 1 joins .* is no entry of the vocabulary"),
        ("merges.txt", "#version: 0.2\na b\nqq zz\n", "merge 1 joins 'a' and 'b', but 'ab' is no"),
        ("merges.txt", "#version: 0.2\nt h\nthe\n", "merges.txt, line 3: 'the' is no merge"),
        ("merges.txt", "#version: 0.2\nt  h\n", "merges.txt, line 2: 't  h' is no merge"),
        ("merges.txt", "t h e\n", "merges.txt, line 1: 't h e' is no merge"),
        ("merges.txt", "t h\n\nh e\n", "merges.txt, line 2: '' is no merge"),
    ],
)
def test_refuses_files(
    saved: GptBpe | ByteBpe, folder: Path, name: str, text: str, message: str
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    assert str(folder) in str(error.value)


def test_refuses_a_merge_twice(saved: GptBpe | ByteBpe, folder: Path) -> None:
    first, second = saved.merges[0]
    with open(folder / "merges.txt", "a", encoding="utf-8") as file:
        file.write(f"{first} {second}\n")
    with pytest.raises(UserError, match=f"merge 21 joins '{first}' and '{second}', as merge 1"):
        load_tokenizer(folder / "vocab.json")


def test_refuses_a_wrong_pair(tmp_path: Path) -> None:
    """The vocabulary of one model beside the merges of another, with tokenizer.json and without."""
    tiny_bpe.gpt2(20).save(tmp_path)
    tiny_bpe.gpt2(60).save(tmp_path / "other")
    os.replace(tmp_path / "other" / "merges.txt", tmp_path / "merges.txt")
    for _ in range(2):
        with pytest.raises(UserError, match=r"vocab.json and merges.txt in .*: merge 21 joins"):
            load_tokenizer(tmp_path)
        (tmp_path / "tokenizer.json").unlink(missing_ok=True)


def test_refuses_two_vocabularies(tmp_path: Path) -> None:
    tiny_bpe.gpt2(20).save(tmp_path)
    tiny_bpe.gpt2(60).save(tmp_path / "other")
    for name in ("merges.txt", "vocab.json"):
        os.replace(tmp_path / "other" / name, tmp_path / name)
    with pytest.raises(UserError, match="hold different vocabularies: '..' has id 276 and none"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("there", ["vocab.json", "merges.txt"])
def test_refuses_half_a_pair(saved: GptBpe | ByteBpe, folder: Path, there: str) -> None:
    (missing,) = {"vocab.json", "merges.txt"} - {there}
    (folder / missing).unlink()
    (folder / "tokenizer.json").unlink()
    for path in (folder, folder / there):
        with pytest.raises(UserError, match=f"holds {there} but no {missing}; expected both"):
            load_tokenizer(path)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [("gpt", "CLIPTokenizer", "OpenAIGPTTokenizer"), ("gpt2", "Qwen2Tokenizer", "GPT2Tokenizer")],
)
def test_refuses_other_classes(tmp_path: Path, kind: str, name: str, expected: str) -> None:
    (tiny_bpe.gpt(20) if kind == "gpt" else tiny_bpe.gpt2(20)).save(tmp_path)
    edit(tmp_path / "tokenizer_config.json", put("tokenizer_class", value=name))
    told = f"tokenizer_class is '{name}'.*; expected {expected}, or none"
    with pytest.raises(UserError, match=told):
        load_tokenizer(tmp_path)
    edit(tmp_path / "tokenizer_config.json", put("tokenizer_class", value=f"{expected}Fast"))
    assert load_tokenizer(tmp_path).kind == {"gpt": "bpe", "gpt2": "byte-bpe"}[kind]


def test_refuses_a_prefix_space(tmp_path: Path) -> None:
    tiny_bpe.gpt2(20).save(tmp_path)
    edit(tmp_path / "tokenizer_config.json", put("add_prefix_space", value=True))
    with pytest.raises(UserError, match="add_prefix_space is true; expected false, as in GPT-2"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer.json"])
def test_refuses_huge_files_unread(saved: GptBpe | ByteBpe, folder: Path, name: str) -> None:
    os.truncate(folder / name, 10**9)  # sparse
    with pytest.raises(UserError, match=f"{name} has 1,000,000,000 bytes; expected a vocabulary"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_refuses_what_is_not_utf8(saved: GptBpe | ByteBpe, folder: Path, name: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(b"#version: 0.2\nt \xe9\n")
    with pytest.raises(UserError, match=f"{name}, line 2: byte 0xe9 is not UTF-8"):
        load_tokenizer(folder)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_save_leaves_nothing_half_written(
    saved: GptBpe | ByteBpe, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"cannot write .*vocab.json: No space left"):
        tiny_bpe.gpt2(30).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_built_file_lists_what_is_special() -> None:
    vocabulary, merges = tiny_bpe.gpt2_files(5)
    added = bpe_json.build("byte-bpe", vocabulary, merges)["added_tokens"]
    assert [(token["content"], token["id"]) for token in added] == [("<|endoftext|>", 261)]
    del vocabulary["<|endoftext|>"]
    assert bpe_json.build("byte-bpe", vocabulary, merges)["added_tokens"] == []
    assert ByteBpe(vocabulary, merges).special.end_of_text is None


def test_write_refuses_what_could_not_be_read_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'ab' is no entry of the vocabulary"):
        write_bpe("byte-bpe", {"a": 0, "b": 1}, [("a", "b")], tmp_path / "new", 9)
    spaced = {"a": 0, " ": 1, "a ": 2}
    with pytest.raises(UserError, match="merge 1 joins 'a' and ' '; merges.txt cannot hold white"):
        write_bpe("byte-bpe", spaced, [("a", " ")], tmp_path / "new", 9)
    assert not (tmp_path / "new").exists()
