"""A document of headings, text, tables, figures and code, written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3rem 0.7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { vertical-align: bottom; white-space: normal; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #555; }
pre { background: #f4f4f4; padding: 0.7rem 1rem; overflow-x: auto; }
"""


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
    """Cells of text under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


class Figure(NamedTuple):
    """A PNG file beside the document."""

    file: str
    caption: str


class Code(NamedTuple):
    """Lines for a terminal."""

    text: str


Block = Heading | Paragraph | Items | Table | Figure | Code


def write(blocks: Sequence[Block], directory: Path) -> None:
    """Writes ``report.md`` and ``report.html`` beside the figures; the latter holds the pictures itself."""
    markdown = "\n\n".join(map(_markdown, blocks))
    (directory / "report.md").write_text(f"{markdown}\n", encoding="utf-8")
    title = next(html.escape(block.text) for block in blocks if isinstance(block, Heading))
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join(_html(block, directory) for block in blocks)
    (directory / "report.html").write_text(f"{head}\n{body}\n</html>\n", encoding="utf-8")


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Table(headings, rows):
            lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
            return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
        case Figure(file, caption):
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
        case Table(headings, rows):
            return f"<table>{_row('th', headings)}{''.join(_row('td', row) for row in rows)}</table>"
        case Figure(file, caption):
            picture = base64.b64encode((directory / file).read_bytes()).decode()
            text = html.escape(caption)
            image = f'<img alt="{text}" src="data:image/png;base64,{picture}">'
            return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
