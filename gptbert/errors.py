"""What a user may meet when something goes wrong, and the exit codes that scripts can rely on.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a bug of ours; the traceback is printed |
| 2 | the user's input: `UserError`, one sentence on stderr, nothing half-written |
| 3 | the run failed for a stated reason: `RunFailed`, for instance a loss that became NaN |
| 75 | stopped on request after saving (SIGTERM): `Interrupted`; the same command continues |
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_BAD_INPUT = 2
EXIT_RUN_FAILED = 3
EXIT_INTERRUPTED = 75


class UserError(Exception):
    """Bad input, told in one sentence: what was found, where, what was expected, what helps."""


class RunFailed(Exception):
    """A run that cannot go on for a reason worth stating (step, last good checkpoint)."""


class Interrupted(Exception):
    """A run that was asked to stop, has saved its state, and continues with the same command."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shown(value: object) -> str:
    """A value as a message shows it: at most 200 characters, a longer one cut in the middle."""
    told = repr(value)
    return told if len(told) <= 200 else f"{told[:97]}...{told[-97:]}"
