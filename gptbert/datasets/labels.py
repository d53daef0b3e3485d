"""A column of labels as written -> class names or scores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Literal

from gptbert.errors import UserError, nearest

# What a column of labels is: names, numbers to be learnt, or (`auto`) whatever it looks like.
LabelKind = Literal["auto", "classes", "score"]
LABEL_KINDS: tuple[LabelKind, ...] = ("auto", "classes", "score")

# Narrower than `float()`, which also takes `nan`, `infinity`, `1_000` and digits of any script.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST_SCORE = 3.4e38
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


def resolve_labels(
    where: str,
    labels: Iterable[tuple[int, str]],
    classes: tuple[str, ...] | None,
    kind: LabelKind,
) -> tuple[Mapping[str, str | float], tuple[str, ...]]:
    """Finds out what the labels of a column are.

    Args:
      where: The file, for messages.
      labels: (line, label as written) of every labelled row.
      classes: The only classes allowed, or None to find them.
      kind: `classes` takes any labels for names, `score` refuses what is not a number, `auto`
        finds scores where every label is a number and one of them is not whole.

    Returns:
      label as written -> class name or score, and the classes (empty for scores).

    Raises:
      UserError: an unknown label, not a number, one class in two spellings, a single class.
    """
    lines: dict[str, int] = {}
    for line, label in labels:
        lines.setdefault(label, line)
    if kind == "score" or (kind == "auto" and classes is None and _are_scores(lines)):
        return {label: _score(where, line, label) for label, line in lines.items()}, ()
    if classes is None:
        classes = _find_classes(where, lines, numbers_are_names=kind == "classes")
    known = frozenset(classes)
    for label, line in lines.items():
        if label not in known:
            raise UserError(
                f"{where}:{line}: unknown label {label!r}{nearest(label, classes)}; "
                f"known labels: {', '.join(classes)}"
            )
    return {label: label for label in lines}, classes


def are_whole_numbers(labels: Iterable[str]) -> bool:
    """Whether all are written as whole numbers, without a decimal point."""
    return all(_INTEGER.fullmatch(label) for label in labels)


def _are_scores(labels: Iterable[str]) -> bool:
    """Every label is a number, and one of them is not whole."""
    if not all(_NUMBER.fullmatch(label) for label in labels):
        return False
    return any(not float(label).is_integer() for label in labels)


def _score(where: str, line: int, label: str) -> float:
    score = float(label) if _NUMBER.fullmatch(label) else math.nan
    if not math.isfinite(score):
        raise UserError(f"{where}:{line}: label {label!r} is not a number; scores are expected")
    if abs(score) > _LARGEST_SCORE:
        raise UserError(f"{where}:{line}: label {label!r} is too large for a float32 score")
    return score


def _find_classes(
    where: str, lines: Mapping[str, int], *, numbers_are_names: bool
) -> tuple[str, ...]:
    _refuse_two_spellings(where, lines, numbers_are_names=numbers_are_names)
    if len(lines) < 2:
        found = f"only the label {next(iter(lines))!r}" if lines else "no labels"
        raise UserError(f"{where}: {found}; a classifier needs at least two classes")
    if all(_NUMBER.fullmatch(label) for label in lines):
        return tuple(sorted(lines, key=lambda label: (float(label), label)))
    return tuple(sorted(lines))


def _refuse_two_spellings(where: str, lines: Mapping[str, int], *, numbers_are_names: bool) -> None:
    """One class written in two ways would be learnt as two classes.

    Numbers that are equal are one class, unless they are names: then 3.1 and 3.10 are two.
    """
    seen: dict[str | float, str] = {}
    for label, line in lines.items():
        is_number = not numbers_are_names and _NUMBER.fullmatch(label.strip())
        meaning: str | float = float(label) if is_number else label.strip()
        if str(meaning).lower() in ("true", "false"):  # JSON and Python spell them differently
            meaning = str(meaning).lower()
        if meaning in seen:
            other = seen[meaning]
            two = ""
            if is_number and label.strip() != other.strip():
                two = ", or, if they are two: --config.label_kind=classes"
            raise UserError(
                f"{where}:{line}: label {label!r}, which line {lines[other]} writes as {other!r}; "
                f"write one class in one way{two}"
            )
        seen[meaning] = label
    words = [label for label in lines if not _NUMBER.fullmatch(label)]
    if len(words) == 1 and words[0].lower() == "nan" and len(lines) > 1:
        raise UserError(f"{where}:{lines[words[0]]}: label {words[0]!r} among numbers; a gap?")
