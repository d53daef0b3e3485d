"""Configs from files, fields from the command line: every field, every type, every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gptbert.commands.config_flag import (
    config_folder,
    explained_fields,
    field_names,
    find_config,
    load_config,
    set_field,
    split_config_flags,
)
from gptbert.errors import UserError
from gptbert.runs.recipe import finetuning, finetuning_on_own_files


def config() -> ConfigDict:
    made = ConfigDict({"size": 32, "rate": 0.1, "name": "a", "deep": False, "columns": ("x",)})
    made.maybe = placeholder(float)
    made.perhaps = placeholder(bool)
    made.mesh = ConfigDict({"data": -1, "tensor": 1})
    return made


def mistake(field: str, text: str) -> str:
    with pytest.raises(UserError) as caught:
        set_field(config(), field, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_split() -> None:
    arguments = ["--quiet", "--config=a.py:b", "--config.x=1", "--config.y", "2", "--workdir=w"]
    name, fields, rest = split_config_flags(arguments)
    assert name == "a.py:b" and fields == [("x", "1"), ("y", "2")]
    assert rest == ["--quiet", "--workdir=w"]


def test_split_takes_values_that_look_like_flags() -> None:
    assert split_config_flags(["--config", "a.py", "--config.x=--y=z"]) == (
        "a.py",
        [("x", "--y=z")],
        [],
    )


def test_a_flag_without_a_value() -> None:
    with pytest.raises(UserError, match=r"--config\.x needs a value"):
        split_config_flags(["--config.x"])


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("size", "64", 64),
        ("rate", "5e-5", 5e-5),
        ("rate", "1", 1.0),
        ("name", "1", "1"),
        ("name", "a=b", "a=b"),
        ("deep", "true", True),
        ("deep", "0", False),
        ("deep", "NO", False),
        ("columns", "a,b", ("a", "b")),
        ("columns", "('a', 'b')", ("a", "b")),
        ("columns", "['a']", ("a",)),
        ("columns", "", ()),
        ("columns", "(pooler|bert)/", ("(pooler|bert)/",)),
        ("columns", "(1, 2)", (1, 2)),
        ("maybe", "0.5", 0.5),
        ("perhaps", "yes", True),
        ("mesh.data", "4", 4),
    ],
)
def test_values(field: str, text: str, value: object) -> None:
    made = config()
    set_field(made, field, text)
    *folders, last = field.split(".")
    place = made[folders[0]] if folders else made
    assert place[last] == value and type(place[last]) is type(value)


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("size", "a", "--config.size='a': expected a whole number"),
        ("size", "3.5", "--config.size='3.5': expected a whole number"),
        ("rate", "fast", "--config.rate='fast': expected a number"),
        ("deep", "maybe", "--config.deep='maybe': expected true or false"),
        ("columns", "('a'", "--config.columns=\"('a'\": expected a list"),
        ("sise", "3", "unknown config field --config.sise (did you mean 'size'?)"),
        ("mesh.dta", "3", "unknown config field --config.mesh.dta (did you mean 'mesh.data'?)"),
        ("mish.data", "3", "(did you mean 'mesh.data'?)"),
        ("size.x", "3", "unknown config field --config.size.x"),
        ("", "3", "unknown config field --config."),
        ("mesh", "3", "--config.mesh is a group; expected one of --config.mesh.data"),
    ],
)
def test_mistakes(field: str, text: str, expected: str) -> None:
    assert expected in mistake(field, text)


def test_unknown_fields_are_answered_with_all_fields() -> None:
    assert "this config has columns, deep, maybe, mesh.data, mesh.tensor, name" in mistake("q", "")


def test_every_field_of_the_recipe_can_be_set() -> None:
    made = finetuning("glue/mrpc")
    values = {bool: "true", int: "3", float: "0.25", str: "word", tuple: "a,b"}
    for name in field_names(made):
        *folders, last = name.split(".")
        place = made[folders[0]] if folders else made
        kind = place.get_type(last)
        set_field(made, name, values[kind])
        assert type(place[last]) is kind, name


def test_configs_of_this_project() -> None:
    names = sorted(path.name for path in config_folder().glob("[a-z]*.py"))
    assert {"demo.py", "glue.py", "text_classification.py"} <= set(names)
    for name in names:
        made = load_config(f"configs/{name}", [("seed", "7")], example="")
        assert made.seed == 7 and made.is_locked
        assert find_config(name).samefile(find_config(f"configs/{name}"))


def test_a_task_is_the_argument() -> None:
    assert load_config("configs/glue.py:rte", [], example="").task == "glue/rte"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "no config: expected --config=FILE.py[:ARGUMENT], for instance --config=this.py"),
        ("configs/glu.py", "'configs/glu.py' was not found (did you mean 'configs/glue.py'?)"),
        ("configs/text_classification.py:x", "takes no argument, but ':x' was given"),
        ("nowhere/glue.py:mrpc", "'nowhere/glue.py' was not found"),
        ("README.md", "config README.md is no Python file; expected --config=FILE.py[:ARGUMENT]"),
    ],
)
def test_configs_that_cannot_be_loaded(name: str | None, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(name, [], example="--config=this.py")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("def get_config(:", "cannot be read: "),
        ("import nowhere_to_be_found", "cannot be read: ModuleNotFoundError: No module named"),
        ("x = 1", "has no function get_config()"),
        ("def get_config():\n    return 3", "get_config() gives int; expected a ConfigDict"),
        ("def get_config(size):\n    return size", "needs an argument: "),
    ],
)
def test_own_configs_that_cannot_be_loaded(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "own.py").write_text(content)
    with pytest.raises(UserError) as caught:
        load_config(str(tmp_path / "own.py"), [], example="")
    assert expected in str(caught.value) and str(tmp_path / "own.py") in str(caught.value)


def test_an_own_config(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from gptbert.runs.recipe import finetuning\n"
        "def get_config(task='rte'):\n"
        "    config = finetuning(f'glue/{task}')\n"
        "    config.batch_size = 8\n"
        "    return config\n"
    )
    (tmp_path / "a:b.py").write_text((tmp_path / "own.py").read_text())
    assert load_config(f"{tmp_path / 'a:b.py'}", [], example="").task == "glue/rte"
    made = load_config(f"{tmp_path / 'own.py'}:cola", [("num_epochs", "2")], example="")
    assert (made.task, made.batch_size, made.num_epochs) == ("glue/cola", 8, 2.0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import os\nboom\n", "cannot be read: NameError: name 'boom' is not defined (line 2)"),
        (
            "def get_config(size='a'):\n    return {'a': 1}[size]\n",
            "get_config('zz') fails: KeyError: 'zz' (line 2)",
        ),
        ("def get_config(\n", "cannot be read: SyntaxError: "),
    ],
)
def test_a_config_of_ones_own_that_fails(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_config(f"{path}:zz" if "size" in content else str(path), [], example="")
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "explained"),
    [("finetuning", "keep=2"), ("pretraining", "masking.whole_words=False")],
)
def test_every_field_is_explained(recipe: str, explained: str) -> None:
    """The help of a command lists all fields that its recipe sets, groups included."""
    from gptbert.runs import pretraining_recipe
    from gptbert.runs import recipe as finetuning_recipe

    module = finetuning_recipe if recipe == "finetuning" else pretraining_recipe
    made = (
        finetuning_on_own_files()
        if recipe == "finetuning"
        else pretraining_recipe.pretraining("", "")
    )
    told = explained_fields(Path(str(module.__file__)))
    listed = [line.strip().partition("=")[0] for line in told.split("\n") if "=" in line[:30]]
    assert sorted(listed) == sorted(field_names(made))
    line = next(line for line in told.split("\n") if explained in line)
    assert len(line) > 42, "with the comment that stands beside it"
