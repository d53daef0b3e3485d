"""Vocabularies on disk: what is read, what it implies, what is refused, what is written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gptbert.errors import UserError
from gptbert.tokenizers import files, load_tokenizer, tokenizer_json
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.wordpiece import WordPiece

Write = Any


def load(path: str | Path, lowercase: bool | None = None) -> WordPiece:
    tokenizer = load_tokenizer(path, lowercase=lowercase)
    assert isinstance(tokenizer, WordPiece)
    return tokenizer


@pytest.fixture
def write(tmp_path: Path, uncased_entries: list[str]) -> Write:
    """Writes a folder: `config` and `tokenizer` are changes to a JSON file, None leaves it out."""

    def write(
        vocab: bool = True,
        tokenizer: dict[str, dict[str, Any]] | None = None,
        config: dict[str, Any] | None = None,
    ) -> Path:
        if vocab:
            (tmp_path / "vocab.txt").write_text("\n".join(uncased_entries), encoding="utf-8")
        if tokenizer is not None:
            specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            content = tokenizer_json.build(uncased_entries, Rules(lowercase=True), specials)
            for section, change in tokenizer.items():
                replaced = isinstance(content[section], dict) and isinstance(change, dict)
                content[section] = {**content[section], **change} if replaced else change
            (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        if config is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def test_vocab_lines_are_ids(tmp_path: Path, uncased_entries: list[str]) -> None:
    odd = [
        "\u3000",
        "\u2028",
        "\x85",
        " a ",
        "",
        "\x1c",
    ]  # none of these ends a line or is stripped
    path = tmp_path / "any_name"
    for ending, last in (("\n", ""), ("\n", "\n"), ("\r\n", "\r\n")):
        lines = ending.join([*uncased_entries, *odd]) + last
        path.write_bytes(lines.encode())
        assert load(path).entries == (*uncased_entries, *odd)
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(uncased_entries).encode())
    assert load(str(path)).entries == tuple(uncased_entries)


def test_case_of_a_bare_vocabulary(
    tmp_path: Path, uncased_entries: list[str], cased_entries: list[str]
) -> None:
    def rules(entries: list[str], lowercase: bool | None = None) -> Rules:
        path = tmp_path / "vocab.txt"
        path.write_text("\n".join(entries), encoding="utf-8")
        return load(path, lowercase=lowercase).rules

    assert rules(uncased_entries) == Rules(lowercase=True, max_characters=200)
    assert rules(cased_entries) == Rules(lowercase=False, max_characters=200)
    assert rules([*uncased_entries, "<S>", "[Entity]", "##A1"]).lowercase
    assert not rules([*uncased_entries, "The"]).lowercase
    assert not rules(uncased_entries, lowercase=False).lowercase
    assert rules(cased_entries, lowercase=True).lowercase


def test_folder_says_the_rules(write: Write) -> None:
    assert load(write()).rules == Rules(lowercase=True)
    config = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}
    assert load(write(config=config)).rules == Rules(False, True, False)
    assert load(write(config=config), lowercase=True).rules.lowercase


def test_tokenizer_json_says_the_rules(write: Write) -> None:
    normalizer = {"lowercase": False, "strip_accents": True, "clean_text": False}
    folder = write(
        vocab=False,
        tokenizer={
            "normalizer": {**normalizer, "handle_chinese_chars": False},
            "model": {"max_input_chars_per_word": 100},
            "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 3}, "pad_id": 0},
        },
    )
    tokenizer = load(folder)
    assert tokenizer.rules == Rules(False, True, False, False, 100)
    assert tokenizer.tokenize("the the the the the") == ["the"] * 5  # neither cut nor padded
    assert tokenizer.tokenize("the") == ["the"]
    assert load(folder / "tokenizer.json").fingerprint == tokenizer.fingerprint
    assert load(folder, lowercase=True).rules.lowercase


def test_tokenizer_json_of_2019_names_no_model(write: Write, uncased_entries: list[str]) -> None:
    folder = write(vocab=False, tokenizer={})
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["type"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert load(folder).entries == tuple(uncased_entries)


def test_special_added_tokens_are_entries(write: Write, uncased_entries: list[str]) -> None:
    size = len(uncased_entries)
    added = [{"id": size, "content": "[E1]", "special": True}, {"id": 1, "content": "[UNK]"}]
    tokenizer = load(write(tokenizer={"added_tokens": added}))
    assert tokenizer.vocabulary_size == size + 1
    assert tokenizer.decode([size]) == "[E1]"
    assert tokenizer.tokenize("[E1]") == ["[", "e", "##1", "]"]


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, 'type "Unigram"; expected WordPiece'),
        ({"model": {"type": None, "continuing_subword_prefix": "@"}}, 'prefix is "@"; expected'),
        ({"model": {"unk_token": "<unk>"}}, "unk_token is \"<unk>\"; expected '.UNK.'"),
        ({"model": {"max_input_chars_per_word": 0}}, "max_input_chars_per_word is 0"),
        ({"model": {"vocab": {"[PAD]": 0, "a": 2}}}, "entry 'a' has id 2 where 1 was expected"),
        ({"model": {"vocab": {"[PAD]": 0, "a": 0}}}, "entry 'a' has id 0 where 1 was expected"),
        ({"model": {"vocab": {"[PAD]": -1}}}, "has id -1 where 0 was expected"),
        ({"model": {"vocab": {"[PAD]": "0"}}}, "entry '.PAD.' has id \"0\"; expected a number"),
        ({"model": {"vocab": {"[PAD]": True}}}, "has id true; expected a number"),
        ({"model": {"vocab": ["[PAD]"]}}, r'vocab is \["\[PAD\]"\]; expected an object'),
        ({"model": {"vocab": {}}, "added_tokens": []}, "is empty"),
        ({"model": []}, r"model is \[\]; expected an object"),
        ({"normalizer": None}, "normalizer is null; expected an object"),
        ({"normalizer": {"type": "NFC"}}, 'normalizer is of type "NFC"; expected BertNormalizer'),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "pre_tokenizer is of type"),
        ({"normalizer": {"lowercase": None}}, "lowercase of the normalizer is null"),
        ({"added_tokens": [{"id": 9, "content": "[UNK]"}]}, "has id 9, but 1 in the vocabulary"),
        ({"added_tokens": [{"id": 9999, "content": "x-y"}]}, "'x-y' is matched before all else"),
        ({"added_tokens": [{"id": 9999, "content": "[X]", "special": True}]}, "has id 9999 where"),
        ({"added_tokens": ["x"]}, 'added token "x"; expected an object'),
    ],
)
def test_refuses_tokenizer_json(write: Write, tokenizer: dict[str, Any], message: str) -> None:
    folder = write(vocab=False, tokenizer=tokenizer)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert str(folder / "tokenizer.json") in str(error.value)


@pytest.mark.parametrize(
    ("normalizer", "config", "named"),
    [
        ({}, {"do_lower_case": False}, "do_lower_case is False .* lowercase is True"),
        ({}, {"strip_accents": False}, "strip_accents is False .* strip_accents is True"),
        ({"handle_chinese_chars": False}, {"tokenize_chinese_chars": True}, "is True .* is False"),
        ({}, {"do_lower_case": "no"}, "do_lower_case is 'no'; expected true or false"),
    ],
)
def test_refuses_files_that_disagree(
    write: Write, normalizer: dict[str, Any], config: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        load(write(tokenizer={"normalizer": normalizer}, config=config))


def test_case_given_settles_a_disagreement(write: Write) -> None:
    folder = write(tokenizer={}, config={"do_lower_case": False, "strip_accents": None})
    assert load(folder, lowercase=True).rules.lowercase
    assert not load(folder, lowercase=False).rules.lowercase


def test_files_that_agree_in_effect(write: Write) -> None:
    config = {"do_lower_case": True, "strip_accents": True, "tokenize_chinese_chars": True}
    assert load(write(tokenizer={}, config=config)).rules.removes_accents


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            {"tokenizer_class": "BertJapaneseTokenizer"},
            "tokenizer_class is 'BertJapaneseTokenizer'",
        ),
        ({"tokenizer_class": "BertweetTokenizer"}, "expected BertTokenizer, DistilBertTokenizer"),
        ({"tokenizer_class": ["BertTokenizer"]}, r"tokenizer_class is \['BertTokenizer'\]"),
        ({"word_tokenizer_type": "mecab"}, "word_tokenizer_type is 'mecab'; expected 'basic'"),
        ({"subword_tokenizer_type": "character"}, "is 'character'; expected 'wordpiece'"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize is False; expected True"),
        (
            {"never_split": ["[MASK]", "Foo"]},
            r'never_split is \["\[MASK\]", "Foo"\].*expected none',
        ),
        ({"never_split": "Foo"}, 'never_split is "Foo"'),
        (
            {"added_tokens_decoder": {"500": {"content": "Foo"}}},
            "'Foo' has id 500 .* gives it none",
        ),
        (
            {"added_tokens_decoder": {"9": {"content": "[SEP]"}}},
            "has id 9 .* vocabulary gives it 3",
        ),
        ({"added_tokens_decoder": {"x": {"content": "[SEP]"}}}, "expected an object with a number"),
        ({"added_tokens_decoder": ["[SEP]"]}, r'added_tokens_decoder is \["\[SEP\]"\]'),
    ],
)
@pytest.mark.parametrize("tokenizer", [None, {}])
def test_refuses_other_tokenizers_than_berts(
    write: Write, tokenizer: dict[str, Any] | None, config: dict[str, Any], named: str
) -> None:
    folder = write(tokenizer=tokenizer, config=config)
    with pytest.raises(UserError, match=named) as error:
        load(folder)
    assert str(error.value).startswith(f"{folder / 'tokenizer_config.json'}: ")
    assert "\n" not in str(error.value)
    assert load(folder / "vocab.txt").special.sep == 3  # named, a file is read as it is


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_class": name}
        for name in ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None)
    ]
    + [
        {
            "tokenizer_class": "TokenizersBackend",
            "added_tokens_decoder": {"3": {"content": "[SEP]"}},
        },
        {"do_basic_tokenize": True, "never_split": None, "word_tokenizer_type": None},
        {"never_split": ["[SEP]", "[MASK]"], "word_tokenizer_type": "basic"},
    ],
)
def test_reads_what_berts_say_of_themselves(write: Write, config: dict[str, Any]) -> None:
    assert load(write(config=config)).rules == Rules(lowercase=True)


def test_the_class_may_stand_in_the_models_config(write: Write) -> None:
    folder = write(config={"tokenizer_class": None})
    (folder / "config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(UserError, match=r"config.json: tokenizer_class is 'BertJapaneseTokenizer'"):
        load(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert load(folder).rules.lowercase


def test_refuses_added_tokens_beyond_the_vocabulary(
    write: Write, uncased_entries: list[str]
) -> None:
    folder, path = write(), "added_tokens.json"
    (folder / path).write_text('{"Foo": 500}')
    with pytest.raises(UserError, match=r"added_tokens.json: added token 'Foo' has id 500 and is"):
        load(folder)
    (folder / path).write_text(json.dumps({"[MASK]": 4, uncased_entries[9]: 9}))
    assert load(folder).entries == tuple(uncased_entries)
    # No text holds a special token, so that one beyond the vocabulary changes nothing.
    (folder / "vocab.txt").write_text("\n".join(uncased_entries).replace("[MASK]", "[unused1]"))
    (folder / path).write_text('{"[MASK]": 500}')
    assert load(folder).special.mask is None


def test_refuses_two_vocabularies(write: Write, uncased_entries: list[str]) -> None:
    folder = write(tokenizer={})
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join([*uncased_entries[:7], "other"]), encoding="utf-8")
    with pytest.raises(UserError, match=r"id 7 is 'other' \(of 8 entries\) and 'b' \(of \d+\)"):
        load(folder)
    vocab.write_text("\n".join(uncased_entries[:7]), encoding="utf-8")
    with pytest.raises(UserError, match=r"id 7 is none \(of 7 entries\)"):
        load(folder)


def test_a_folder_that_has_a_tokenizer_in_it_says_so(tmp_path: Path) -> None:
    """As a token store does."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(UserError, match=f"expected the one in it: {tmp_path}/tokenizer$"):
        load(tmp_path)


def test_missing_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer at .*/none: there is no such file"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match=r"looked for .*vocab.txt and .*tokenizer.json.* nothing"):
        load(tmp_path)
    for number in range(9):
        (tmp_path / f"{number}.bin").touch()
    with pytest.raises(UserError, match=r"the folder holds 0.bin, .*7.bin, \.\.\.$"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        ("[PAD]\ncafé\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8.*LATIN1"),
        ("[PAD]\na\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8.*UTF-16"),
        ("[PAD]\na\n".encode("utf-16-le"), "line 1: byte 0x00 is not UTF-8.*UTF-16LE"),
        (b"[PAD]\n[UNK]\n", r"2 entries but no \[CLS\], \[SEP\]"),
        (b"a\nb\na\nb\n", r"line 3: 'a' stands on line 1 already \(2 repeated"),
        (b"[PAD]\rb\r", "line 1: entry .* holds a line break within"),
    ],
)
def test_refuses_vocab_txt(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(data)
    for place in (path, tmp_path):
        with pytest.raises(UserError, match=message) as error:
            load(place)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '"text"', "{'a': 1}"])
def test_refuses_what_is_not_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer.json (is not JSON|holds a JSON)"):
        load(tmp_path)


def test_refuses_huge_files_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    os.truncate(path, 10**12)  # sparse
    with pytest.raises(UserError, match="1,000,000,000,000 bytes; expected a vocabulary"):
        load(path)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(lowercase=True),
        Rules(lowercase=False, max_characters=100),
        Rules(True, strip_accents=False, handle_chinese_chars=False, clean_text=False),
    ],
)
def test_save_and_load_are_one(tmp_path: Path, uncased_entries: list[str], rules: Rules) -> None:
    saved = WordPiece(uncased_entries, rules)
    saved.save(tmp_path / "made" / "here", max_length=77)
    folder = tmp_path / "made" / "here"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    loaded = load(folder)
    assert loaded.fingerprint == saved.fingerprint
    assert load(folder / "vocab.txt").entries == saved.entries
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert (config["model_max_length"], config["do_lower_case"]) == (77, rules.lowercase)
    assert config["mask_token"] == "[MASK]"


def test_save_names_no_mask_without_entry(tmp_path: Path, uncased_entries: list[str]) -> None:
    entries = [entry for entry in uncased_entries if entry != "[MASK]"]
    WordPiece(entries, Rules(lowercase=True)).save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["mask_token"] is None
    assert load(tmp_path).special.mask is None


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_save_leaves_nothing_half_written(
    vocab_file: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tokenizer = load(vocab_file)
    vocab_file.write_text("as it was")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"cannot write .*vocab.txt: No space left"):
        tokenizer.save(vocab_file.parent)
    assert [path.name for path in vocab_file.parent.iterdir()] == ["vocab.txt"]
    assert vocab_file.read_text() == "as it was"


def test_save_refuses_a_file_in_the_way(vocab_file: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        load(vocab_file).save(vocab_file)


def test_packaged_weights(minilm_dir: Path) -> None:
    tokenizer = load(minilm_dir)
    assert tokenizer.rules == Rules(lowercase=True, max_characters=100)
    assert tokenizer.vocabulary_size == 30_522
    assert tokenizer.encode("hello world") == [7592, 2088]
    assert len(tokenizer.encode("hello " * 300)) == 300  # the file's truncation is 128
    bare = load(minilm_dir / "vocab.txt")
    assert bare.rules == Rules(lowercase=True, max_characters=200)


@pytest.mark.parametrize(("name", "cased"), [("uncased", False), ("cased", True)])
def test_googles_vocabularies(data_dir: Path, name: str, cased: bool) -> None:
    tokenizer = load(data_dir / "vocab" / f"bert-base-{name}-vocab.txt")
    assert tokenizer.rules.lowercase is not cased
    special = tokenizer.special
    expected = (0, 100, 101, 102, 103)
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == expected


def test_a_repeated_key_is_found_in_linear_time() -> None:
    compared = 0

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    keys = [f"w{number}" for number in range(2000)]
    with pytest.raises(ValueError, match="'w1999' stands there twice"):
        files._without_repeats([(Key(key), 0) for key in [*keys, keys[-1], keys[-1]]])
    assert compared < 10_000
