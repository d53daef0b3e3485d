"""The page's table of examples: mistakes and right answers, with the texts as they were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptbert.reports.svg import escape

SHOWN_WRONG, SHOWN_RIGHT = 12, 8
LONG_TEXT = 300  # characters, beyond which a text is folded


def examples_table(
    predictions: Sequence[Mapping[str, Any]], examples: int, right_answers: int | None
) -> str:
    """Shows the most confident mistakes first (of scores the largest errors), then right answers.

    Args:
      predictions: Objects with `texts`, `label`, `prediction` and, for classes, `probabilities`
        ({class: probability} or a list). Examples without a label are left out.
      examples: Of the split, of which `predictions` may be a part.
      right_answers: Among all of these; None where it is not known.

    Returns:
      HTML: a note that counts what is shown, and a table; "" if there is nothing to show.
    """
    known = [row for row in predictions if row.get("label") is not None]
    wrong = sorted((row for row in known if not _is_right(row)), key=_surprise, reverse=True)
    right = [row for row in known if _is_right(row)]
    shown = wrong[:SHOWN_WRONG] + right[:SHOWN_RIGHT]
    if not shown:
        return ""
    if right_answers is None and len(known) == examples:
        right_answers = len(right)
    counts = (f"{len(wrong[:SHOWN_WRONG])}", f"{len(right[:SHOWN_RIGHT])}")
    note = f"Shown: {counts[0]} mistakes, the most confident first, and {counts[1]} right answers."
    if right_answers is not None:
        note = (
            f"{right_answers:,} of {examples:,} are right. Shown: {counts[0]} of "
            f"{examples - right_answers:,} mistakes, the most confident first, and {counts[1]} of "
            "the right answers."
        )
    if _is_score(known[0]):
        shown = sorted(known, key=_surprise, reverse=True)[: SHOWN_WRONG + SHOWN_RIGHT]
        note = f"{len(shown):,} of {examples:,} examples, the largest errors first."
    head = "".join(
        f'<th scope="col">{text}</th>'
        for text in ("Verdict", "Text", "Label", "Prediction", "Confidence")
    )
    rows = "".join(map(_example_row, shown))
    return (
        f'<p class="note">{note}</p><div class="scroll"><table class="examples"><thead><tr>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _example_row(row: Mapping[str, Any]) -> str:
    right = _is_right(row)
    kind = "right" if right else "wrong"
    verdict = "✓ right" if right else "✗ wrong"
    if _is_score(row):
        kind, verdict = "score", f"off by {number(_surprise(row))}"
    confidence = _confidence(row)
    texts = "".join(f"<p>{folded(text)}</p>" for text in row.get("texts") or [])
    return (
        f'<tr class="{kind}"><td class="verdict">{verdict}</td><td class="text">{texts}</td>'
        f"<td>{folded(number(row['label']))}</td><td>{folded(number(row.get('prediction')))}</td>"
        f'<td class="number">{"-" if confidence is None else f"{confidence:.0%}"}</td></tr>'
    )


def folded(text: object) -> str:
    """A text of the data: escaped, its writing direction kept to itself, folded when long."""
    whole = str(text)
    if len(whole) <= LONG_TEXT:
        return f"<bdi>{escape(whole)}</bdi>"
    start = f"<summary><bdi>{escape(whole[:LONG_TEXT])}…</bdi></summary>"
    return f"<details>{start}<bdi>{escape(whole)}</bdi></details>"


def _is_score(row: Mapping[str, Any]) -> bool:
    return isinstance(row["label"], (int, float))


def _is_right(row: Mapping[str, Any]) -> bool:
    return bool(row["label"] == row.get("prediction"))


def _surprise(row: Mapping[str, Any]) -> float:
    """How sure a prediction was; for a score, how far off."""
    if _is_score(row):
        return abs(float(row["label"]) - float(row["prediction"]))
    return _confidence(row) or 0.0


def _confidence(row: Mapping[str, Any]) -> float | None:
    """The largest probability, from {class: probability} or a list; None if there are none."""
    found = row.get("probabilities")
    values = list(found.values()) if isinstance(found, Mapping) else found
    return float(max(values)) if values else None


def number(value: object) -> str:
    """A number as people read it: 12,345 or 0.512 or 1,234.5; anything else as it is."""
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
