"""What every figure is made of: escaped texts, and an `<svg>` element that stands alone.

The element carries its style, so that it looks the same as a file and inside an HTML page, and
follows the reader's dark or light setting.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

LINES = 6  # colours before they repeat
STYLE = """
.gb{--ink:#1c2430;--dim:#5b6675;--rule:#d9dee6;--ground:#fff;--c0:#1f5fbf;--c1:#b4460f;--c2:#0b7468;
--c3:#7a3fc4;--c4:#8a6a00;--c5:#b3266b;background:var(--ground);max-width:100%;height:auto;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
@media (prefers-color-scheme:dark){.gb{--ink:#e8ecf2;--dim:#9aa5b4;--rule:#323b49;--ground:#161c26;
--c0:#7db0ff;--c1:#ff9d66;--c2:#54d3c2;--c3:#c3a4ff;--c4:#e6c455;--c5:#ff8fc0}}
.gb text{fill:var(--ink)}.gb .gb-dim{fill:var(--dim)}.gb .gb-title{font-size:16px;font-weight:600}
.gb .gb-strong{font-weight:600}.gb .gb-small{font-size:11px}
.gb .gb-grid{stroke:var(--rule);fill:none}.gb .gb-axis{stroke:var(--dim);fill:none}
.gb .gb-line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
.gb .gb-faint{stroke-width:1.25;opacity:.4}
.gb .gb-dot{stroke:var(--ground);stroke-width:1.5}
""" + "".join(
    f".gb .gb-s{i}{{stroke:var(--c{i})}}.gb .gb-f{i}{{fill:var(--c{i})}}\n" for i in range(LINES)
)


def escape(text: object) -> str:
    """Text for HTML and XML: markup escaped, characters that XML forbids shown as U+FFFD."""
    forbidden = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]"
    return html.escape(re.sub(forbidden, "\ufffd", str(text)), quote=True)


def text(x: float, y: float, content: object, *, anchor: str = "start", look: str = "",
         turn: float = 0.0, hint: str = "") -> str:  # fmt: skip
    """A text element at (x, y), turned by `turn` degrees about it; `hint` shows on hovering.

    `anchor` is start, middle or end; `look` is dim, strong or small, or several of them.
    """
    classes = " ".join(f"gb-{word}" for word in look.split())
    marks = f' class="{classes}"' if classes else ""
    marks += f' text-anchor="{anchor}"' if anchor != "start" else ""
    marks += f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    inner = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{marks}>{inner}{escape(content)}</text>'


def svg(width: int, height: int, title: str, summary: str, parts: Sequence[str]) -> str:
    """The whole element, with its title above and, for screen readers, a summary in words."""
    label = escape(f"{title}. {summary}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gb" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"{text(16, 26, title, look='title')}{''.join(parts)}</svg>"
    )
