"""The console script: quick help, every command, and what each way to fail returns."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import types

import pytest
from jax.errors import JaxRuntimeError

from gptbert import __version__, cli, errors
from gptbert.errors import Interrupted, RunFailed, UserError

HEAVY = ("jax", "flax", "optax", "orbax", "numpy", "ml_collections", "tensorboardX", "tqdm")
HEAVY += ("tensorflow", "tensorflow_datasets", "torch", "transformers")


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_help_is_quick_and_names_every_command() -> None:
    done = python("-X", "importtime", "-m", "gptbert", "--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "gptbert.cli" in imported and not imported & set(HEAVY)


def test_help_takes_less_than_a_second() -> None:
    """Of the processor, user and system: what a clock shows while other tests run is no measure."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "gptbert", "--help"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_utime + used.ru_stime < 1


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
        (OSError(errno.EFBIG, "large", "x"), 2, "gptbert: a file would be larger than it may be"),
        (
            OSError(errno.ENAMETOOLONG, "too long", "x"),
            2,
            "gptbert: cannot use 'x' (too long); exp",
        ),
        (PermissionError(errno.EACCES, "denied", "x"), 2, "gptbert: cannot use 'x' (denied); exp"),
        (KeyboardInterrupt(), 130, "gptbert: interrupted from the keyboard\n"),
        (MemoryError(), 3, "gptbert: the run failed: a device (or this machine) has not the mem"),
        (
            JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 34258965008 bytes."),
            3,
            "gptbert: the run failed: a device (or this machine) has not the memory that a step",
        ),
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
    broken = JaxRuntimeError("INTERNAL: broken")
    for bug in (ValueError("ours"), OSError(errno.EIO, "input/output error"), broken):
        fail_with(bug, monkeypatch)
        with pytest.raises(type(bug)):
            cli.main(["report"])


def test_names_that_standard_output_cannot_show() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    program = "import sys; from gptbert.cli import main; main(['--version']); print('\u4e2d')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == 0 and done.stdout.endswith(b"\\u4e2d\n"), done


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


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches a command."""
    given: list[str] = []
    command = types.SimpleNamespace(main=lambda rest: given.extend(rest) or 0)
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: command)
    monkeypatch.setattr(cli.runtime, "prepare", lambda: None)
    monkeypatch.setenv("HOME", "/home/someone")
    return given


def test_home_is_meant_in_every_flag(seen: list[str]) -> None:
    """No shell expands `~` after `--flag=`; a folder called `~` is dangerous to remove."""
    texts = ["~/as it is", "--ids", "--input=a~/b"]
    assert cli.main(["predict", "--workdir=~/run", "--config.data_dir=~/glue", *texts]) == 0
    assert seen == ["--workdir=/home/someone/run", "--config.data_dir=/home/someone/glue", *texts]


@pytest.mark.parametrize("flag", ["--workdir", "--output", "--input", "--tokenizer", "--init_from"])
def test_a_path_without_a_name(
    flag: str, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unset variable must not mean the current folder."""
    for given in ([f"{flag}="], [flag, ""], ["--quiet", f"{flag}=", "--output=x"]):
        code, _, err = call("export", *given, capsys=capsys)
        assert code == 2 and f"{flag}= names no " in err and err.count("\n") == 1 and not seen


def test_texts_and_other_flags_may_be_empty(seen: list[str]) -> None:
    assert cli.main(["tokenize", "--tokenizer=x", "--ids", "", "--config.notes="]) == 0
    assert seen == ["--tokenizer=x", "--ids", "", "--config.notes="]


def test_behind_two_dashes_are_texts(seen: list[str]) -> None:
    texts = ["--", "--input=", "--output=~/x"]
    assert cli.main(["tokenize", "--tokenizer=x", *texts]) == 0
    assert seen == ["--tokenizer=x", *texts]
