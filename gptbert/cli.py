"""The console script: names every command, imports one only when it runs."""

from __future__ import annotations

import errno
import importlib
import io
import itertools
import os
import sys
import traceback
from collections.abc import Sequence

from gptbert import __version__, disk, runtime
from gptbert.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_RUN_FAILED,
    Interrupted,
    RunFailed,
    UserError,
    nearest,
    shown,
)

# name -> what it does; the module is gptbert.commands.<name>, a hyphen being an underscore.
COMMANDS = {
    "pretrain": "pre-train BERT, GPT or GPT-2 on a prepared corpus",
    "finetune": "fine-tune a pre-trained encoder on a labelled set",
    "sweep": "fine-tune a grid of batch sizes, learning rates and seeds; pick the best on dev",
    "evaluate": "score a labelled file, another split or another task with a finished run",
    "predict": "label new texts with a finished run",
    "export": "write weights as a Hugging Face folder",
    "submit": "make GLUE's submission archive from finished runs",
    "prepare": "download and prepare a data set (the only command that uses the network)",
    "train-vocabulary": "learn a vocabulary from raw text",
    "prepare-corpus": "encode raw text as a token store, for pre-training",
    "tokenize": "show the tokens or ids of texts",
    "report": "write the HTML page of a finished run",
    "demo": "pre-train and fine-tune a tiny BERT and a tiny GPT on the library's docstrings",
}

_OUT_OF_MEMORY = (
    "a device (or this machine) has not the memory that a step takes; --config.accumulate=8 cuts a "
    "batch into pieces, --config.remat=true keeps less of it, a smaller --config.batch_size (of "
    "predict and evaluate: --max_length) needs less, and --dry_run tells how much it is"
)

# Flags that name a path, of which an empty one would be the current folder.
_NAMES = {
    "--workdir": "folder",
    "--output": "folder",
    "--input": "file or folder",
    "--tokenizer": "file or folder",
    "--init_from": "folder",
}

# Of a path that was given: no permission, too long a name, a loop of links, a file for a folder.
_NO_SUCH_USE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
)


def usage() -> str:
    """The text of `gptbert --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"gptbert {__version__}: BERT, GPT and GPT-2 as published, in JAX",
            "",
            "usage: gptbert COMMAND [options]",
            "",
            *lines,
            "",
            "`gptbert COMMAND --help` shows a command's options with an example.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (see `gptbert.errors`).

    A process of a job of several that fails ends at once: leaving in good order it would wait for
    the others, which wait for it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what it cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
    except BaseException as error:
        if not runtime.is_distributed():
            raise
        code = _failed_among_others(error)
    if code and runtime.is_distributed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _failed_among_others(error: BaseException) -> int:
    """Tells how a process of a job of several failed; returns the exit code."""
    if not runtime.lost_a_process(error):
        traceback.print_exc()
        return 1
    print(
        "gptbert: the run failed: another process of the job ended or cannot be reached "
        f"({str(error).splitlines()[0]:.200}); its own output says why, and the same commands "
        "continue from the last checkpoint",
        file=sys.stderr,
    )
    return EXIT_RUN_FAILED


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"gptbert {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise UserError(
                f"unknown command {name!r}{nearest(name, COMMANDS)}; see gptbert --help"
            )
        end = rest.index("--") if "--" in rest else len(rest)  # behind it are texts
        _require_names(rest[:end])
        rest = [*map(_expanded, rest[:end]), *rest[end:]]
        runtime.prepare()
        return importlib.import_module(f"gptbert.commands.{name.replace('-', '_')}").main(rest)
    except UserError as error:
        print(f"gptbert: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunFailed as error:
        print(f"gptbert: the run failed: {error}", file=sys.stderr)
        return EXIT_RUN_FAILED
    except Interrupted as error:
        print(f"gptbert: {error}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (told := _told(error)) is None:
            raise
        print(f"gptbert: {told}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("gptbert: interrupted from the keyboard", file=sys.stderr)
        return 130
    except Exception as error:
        if not runtime.is_out_of_memory(error):
            raise
        print(f"gptbert: the run failed: {_OUT_OF_MEMORY}", file=sys.stderr)
        return EXIT_RUN_FAILED


def _told(error: OSError) -> str | None:
    """What a user can do about an error of the system; None if that is not known."""
    if refusal := disk.refusal(error, str(error.filename or ".")):
        where = f" at {error.filename}" if error.filename else ""
        return f"{refusal.reason}{where}; {refusal.help}, then repeat"
    if error.filename and error.errno in _NO_SUCH_USE:
        path = shown(os.fspath(error.filename))
        return f"cannot use {path} ({error.strerror}); expected a path that may be used here"
    return None


def _require_names(arguments: Sequence[str]) -> None:
    """UserError for a flag of `_NAMES` without a value, `--flag=` or an empty argument after it."""
    empty = [first for first, second in itertools.pairwise(arguments) if not second]
    empty += [argument[:-1] for argument in arguments if argument.endswith("=")]
    for flag in empty:
        if flag in _NAMES:
            raise UserError(f"{flag}= names no {_NAMES[flag]} (is a variable unset?)")


def _expanded(argument: str) -> str:
    """A flag with `~/` at the start of its value expanded, as no shell does after `--flag=`."""
    flag, found, value = argument.partition("=")
    if not flag.startswith("--") or not found or not value.startswith("~/"):
        return argument
    return f"{flag}={os.path.expanduser(value)}"
