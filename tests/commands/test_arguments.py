"""What the commands that use a run share: help with examples, one sentence for a bad flag."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys

import pytest

from gptbert.cli import COMMANDS
from gptbert.commands.arguments import Parser, names
from gptbert.errors import UserError
from tests.fixtures_runs import call

USING = ("evaluate", "predict", "export", "submit", "report")


@pytest.mark.parametrize("command", USING)
def test_help_has_examples_that_parse(command, tmp_path, monkeypatch, capsys):
    """Each example runs up to the folder that is not there, and no further."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"gptbert.commands.{command}").main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out.replace("\\\n", " ")
    examples = [line for line in text.splitlines() if line.startswith(f"  gptbert {command} ")]
    assert examples, text
    for example in examples:
        arguments = shlex.split(example.split(" < ")[0])[1:]
        called = call(*arguments)
        assert called.code == 2, (example, called)
        assert "run folder" in called.err or "no folder" in called.err, (example, called)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", USING)
def test_help_needs_no_jax(command):
    code = (
        f"import sys, gptbert.commands.{command} as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("command", USING)
def test_descriptions_agree(command):
    assert COMMANDS[command] == importlib.import_module(f"gptbert.commands.{command}").HELP


def test_errors_are_one_sentence():
    parser = Parser("thing", "does it", "")
    parser.add_argument("--number", type=int)
    parser.add_argument("text", nargs="*")
    assert parser.parse(["a", "--number=3", "b"]).text == ["a", "b"]
    with pytest.raises(UserError, match="invalid int value: 'x'"):
        parser.parse(["--number=x"])
    with pytest.raises(UserError, match=r"--numbr \(did you mean '--number'\?\)"):
        parser.parse(["--numbr=4"])
    with pytest.raises(UserError, match="unknown argument --num"):
        parser.parse(["--num=4"])  # no abbreviations: a new flag would change their meaning
    with pytest.raises(UserError, match="expected one argument"):
        parser.parse(["--number"])


def test_names():
    assert names("a, b,") == ("a", "b") and names("") == ()


def test_names_with_commas_are_written_as_in_python():
    assert names("('Review, full',)") == ("Review, full",)
    assert names('["a, b", "c"]') == ("a, b", "c")
    parser = Parser("thing", "does it", "")
    parser.add_argument("--names", type=names)
    with pytest.raises(UserError, match=r"--names: \"\('a'\"; expected a list such as a,b or"):
        parser.parse(["--names=('a'"])


def test_behind_two_dashes_everything_is_a_text():
    parser = Parser("predict", "label texts", "")
    parser.add_argument("text", nargs="*")
    parser.add_argument("--quiet", action="store_true")
    found = parser.parse(["a", "--quiet", "--", "--help", "-h", "--", "b"])
    assert (found.text, found.quiet) == (["a", "--help", "-h", "--", "b"], True)
    assert parser.parse(["a", "--"]).text == ["a"]
    with pytest.raises(UserError, match="'x' behind --, where nothing is expected"):
        Parser("pretrain", "pre-train", "").parse(["--", "x"])
