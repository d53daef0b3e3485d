"""The console script: quick help, every command, and what each way to fail returns."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import types

import pytest

from gptbert import __version__, cli, errors
from gptbert.errors import Interrupted, RunFailed, UserError

HEAVY = ("jax", "flax", "optax", "orbax", "numpy", "ml_collections", "tensorboardX", "tqdm")


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_help_is_quick_and_names_every_command() -> None:
    began = time.monotonic()
    done = python("-X", "importtime", "-m", "gptbert", "--help")
    seconds = time.monotonic() - began
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "gptbert.cli" in imported and not imported & set(HEAVY)
    assert seconds < 3, "a second on an idle machine"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(*arguments, capsys=capsys)
    assert code == 0 and err == "" and out.startswith("gptbert ") and "usage: gptbert" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version", capsys=capsys) == (0, f"gptbert {__version__}\n", "")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    said = capsys.readouterr()
    assert ended.value.code == 0 and said.err == ""
    assert f"usage: gptbert {name}" in said.out
    assert f"  gptbert {name} " in said.out.partition("example")[2], "an example that can be copied"


def test_help_of_a_command_starts_no_jax() -> None:
    program = (
        "import sys; from gptbert import cli\n"
        "try: cli.main(['finetune', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules, 'help needs no JAX'"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call("finetun", capsys=capsys)
    assert (code, out) == (2, "")
    assert (
        err == "gptbert: unknown command 'finetun' (did you mean 'finetune'?); see gptbert --help\n"
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_unknown_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([name, "--no_such_flag=1"])
    except SystemExit as ended:  # argparse's own way out
        code = ended.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert said.err.splitlines()[-1].startswith("gptbert"), said.err


@pytest.mark.parametrize("name", ["finetune", "sweep"])
def test_misspelt_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(name, "--workdr=x", capsys=capsys)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "unknown argument --workdr (did you mean '--workdir'?)" in err


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (UserError("not so"), 2, "gptbert: not so\n"),
        (RunFailed("NaN"), 3, "gptbert: the run failed: NaN\n"),
        (Interrupted("later"), 75, "gptbert: later\n"),
        (OSError(errno.ENOSPC, "full", "x"), 2, "gptbert: the disk is full at x; make room"),
        (KeyboardInterrupt(), 130, "gptbert: interrupted from the keyboard\n"),
    ],
)
def test_exit_codes(
    failure: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_with(failure, monkeypatch)
    found, out, err = call("report", capsys=capsys)
    assert found == code and out == "" and err.startswith(said) and err.count("\n") == 1


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for bug in (ValueError("ours"), OSError(errno.EIO, "input/output error")):
        fail_with(bug, monkeypatch)
        with pytest.raises(type(bug)):
            cli.main(["report"])


def fail_with(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(arguments: list[str]) -> int:
        raise failure

    module = types.SimpleNamespace(main=main)
    monkeypatch.setitem(sys.modules, "gptbert.commands.report", module)


def test_codes_are_those_that_scripts_rely_on() -> None:
    assert (errors.EXIT_BAD_INPUT, errors.EXIT_RUN_FAILED, errors.EXIT_INTERRUPTED) == (2, 3, 75)


def test_nearest() -> None:
    assert errors.nearest("mrcp", ["mrpc", "cola"]) == " (did you mean 'mrpc'?)"
    assert errors.nearest("xyz", ["mrpc", "cola"]) == ""
