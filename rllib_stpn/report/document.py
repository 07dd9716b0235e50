"""A document of headings, text, tables, figures and code, written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --faint: #555; --line: #ccc; --code: #f4f4f4; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: var(--text);
  background: var(--page); overflow-wrap: break-word; }
p, ul, figcaption { max-width: 48rem; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem; text-align: right; vertical-align: top; }
th { vertical-align: bottom; }
.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); }
img { max-width: 100%; height: auto; } figure { margin: 1.5rem 0; } figcaption { color: var(--faint); }
pre { background: var(--code); padding: 0.7rem 1rem; overflow-x: auto; }
@media (max-width: 60rem) { table { font-size: 0.8rem; } th, td { padding: 0.3rem 0.4rem; } }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --page: #1a1a1a; --faint: #aaa; --line: #444; --code: #262626; }
}
"""
_SCALE = 0.8  # so that the text of all figures is as large as that of the widest, which fills the page


class Heading(NamedTuple):
    """A heading; level 1 is the document's title."""

    text: str
    level: int


class Paragraph(NamedTuple):
    """Running text."""

    text: str


class Items(NamedTuple):
    """A list."""

    texts: Sequence[str]


class Table(NamedTuple):
    """Cells under headings: columns of text, as many as ``texts``, and then of numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int


class Figure(NamedTuple):
    """A PNG file beside the document, and the picture that the HTML file has in its place on a dark page."""

    file: str
    caption: str
    dark: bytes


class Code(NamedTuple):
    """Lines for a terminal."""

    text: str


Block = Heading | Paragraph | Items | Table | Figure | Code


def write(blocks: Sequence[Block], directory: Path) -> None:
    """Writes ``report.md`` and ``report.html`` beside the figures; the latter holds the pictures itself."""
    markdown = "\n\n".join(map(_markdown, blocks))
    (directory / "report.md").write_text(f"{markdown}\n", encoding="utf-8")
    title = next(html.escape(block.text) for block in blocks if isinstance(block, Heading))
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>"
    )
    body = "\n".join(_html(block, directory) for block in blocks)
    (directory / "report.html").write_text(f"{head}\n<body>\n{body}\n</body>\n</html>\n", encoding="utf-8")


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Table(headings, rows, texts):
            lines = [headings, [*["---"] * texts, *["---:"] * (len(headings) - texts)], *rows]
            return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
        case Figure(file, caption, _):
            return f"![{Path(file).stem}]({file})\n\n{caption}"
        case Code(text):
            return f"```\n{text}\n```"
        case Paragraph(text):
            return text


def _html(block: Block, directory: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Items(texts):
            return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"
        case Table(headings, rows, texts):
            lines = _row("th", headings, texts) + "".join(_row("td", row, texts) for row in rows)
            return f'<div class="wide" tabindex="0"><table>{lines}</table></div>'
        case Figure(file, caption, dark):
            light = (directory / file).read_bytes()
            width = round(int.from_bytes(light[16:20], "big") * _SCALE)  # where PNG has it, after signature and names
            source = f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(dark)}">'
            image = f'<img alt="{Path(file).stem}" width="{width}" src="{_inline(light)}">'
            caption = f"<figcaption>{html.escape(caption)}</figcaption>"
            return f"<figure><picture>{source}{image}</picture>{caption}</figure>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _row(tag: str, cells: Sequence[str], texts: int) -> str:
    """A row that takes little width: cells break between words, before ± and brackets, and after an underscore."""
    row = ""
    for index, cell in enumerate(map(html.escape, cells)):
        cell = re.sub(r"(?<=±) | (?=[^()]*\))", "&nbsp;", cell)
        kind = ' class="text"' if index < texts else ""
        row += f"<{tag}{kind}>{cell.replace('_', '_<wbr>')}</{tag}>"
    return f"<tr>{row}</tr>"
