"""What all pages are made of: the document around them, sections, tables, facts.

Whatever comes from data or config is escaped, and a content security policy in the page forbids
scripts and requests even if a text should ever slip through.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptbert.errors import UserError
from gptbert.reports.examples import folded, number
from gptbert.reports.style import STYLE
from gptbert.reports.svg import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
NAMES = {"f1": "F1", "mlm": "MLM", "nsp": "NSP", "bert": "BERT", "gpt": "GPT", "gpt2": "GPT-2"}


def document(title: str, parts: Sequence[str], footer: str) -> str:
    """The whole page: `parts` are HTML, title and footer plain text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def header(eyebrow: str, title: str, facts: Sequence[str]) -> str:
    """The page's head: what kind of page, of what, and facts in one line."""
    return (
        f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1>'
        f"<p>{escape(' · '.join(facts))}</p></header>\n"
    )


def section(title: str, body: str) -> str:
    """A titled section around HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def note(text: str) -> str:
    """A paragraph of small print; plain text."""
    return f'<p class="note">{escape(text)}</p>'


def numbers_table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table whose first column names the row and whose others, HTML, are aligned as numbers."""
    columns = "".join(
        f'<th scope="col"{" class=number" if index else ""}>{escape(text)}</th>'
        for index, text in enumerate(head)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    table = f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def facts_table(facts: Iterable[tuple[str, object]]) -> str:
    """Names and values, one a line."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="mono">{folded(value)}</td></tr>'
        for name, value in facts
    )
    return f'<div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>'


def flattened(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested fields as facts: ("model.dropout", "0.1")."""
    facts: list[tuple[str, object]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            facts += flattened(value, f"{prefix}{key}.")
        else:
            facts.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return facts


def environment(results: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Where and how fast a run was: the facts that results.json has of it."""
    named = {
        "device_kind": "device",
        "device_count": "devices",
        "processor": "processor",
        "steps": "steps",
        "wall_clock_seconds": "wall-clock seconds",
        "examples_per_second": "examples per second",
        "tokens_per_second": "tokens per second",
        "tokens_per_second_with_padding": "tokens per second, padding included",
        "git_commit": "git commit",
    }
    facts = [(text, number(results[key])) for key, text in named.items() if key in results]
    return facts + flattened(results.get("versions") or {})


def command_section(command: str) -> str:
    """The command line that made a run; "" where it is not known."""
    return section("Command", f"<pre>{escape(command)}</pre>") if command else ""


def fraction(value: float | None, sign: str = "") -> str:
    """Four decimals, or a dash."""
    return "-" if value is None else f"{value:{sign}.4f}"


def track(value: float, marks: str = "") -> str:
    """A bar from 0 to 1; correlations below 0 lie at its start, NaN too."""
    return (
        f'<div class="track" aria-hidden="true"><div class="fill" '
        f'style="width:{percent(value)}"></div>{marks}</div>'
    )


def percent(fraction: float) -> str:
    """A place on a track, for a style attribute."""
    return f"{100 * min(1.0, max(0.0, fraction if math.isfinite(fraction) else 0.0)):.2f}%"


def title(name: str) -> str:
    """A metric's name as a heading: "mlm_accuracy" is "MLM accuracy"."""
    words = [NAMES.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def write_text(path: Path, text: str) -> None:
    """Writes beside the target and moves: a page is whole or absent, an older one stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from None
