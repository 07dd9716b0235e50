"""The page of a report: what it is made of, and how wide it is in a browser."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rllib_stpn.report import document
from rllib_stpn.report.report import write_report

STUDY = Path(__file__).parents[2] / "results/associative_retrieval/runs"
#: A browser in a process of its own: Qt wants the main thread, and a screen or the platform that stands in for one.
BROWSER = """
import sys
from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

page, picture, width = sys.argv[1], sys.argv[2], int(sys.argv[3])
app = QApplication(sys.argv[:1])
view = QWebEngineView()
view.resize(width, 900)
view.show()
MEASURED = '''JSON.stringify({
    page: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tables: [...document.querySelectorAll("table")].map(t => t.parentElement.scrollWidth - t.parentElement.clientWidth),
    background: getComputedStyle(document.body).backgroundColor,
    pictures: [...document.images].map(i => [i.currentSrc == i.src, i.naturalWidth > 0])})'''
def measured(found):
    print(found)
    view.grab().save(picture)
    app.quit()
view.loadFinished.connect(
    lambda _: QTimer.singleShot(1000, lambda: view.page().runJavaScript(MEASURED, measured)))
view.load(QUrl.fromLocalFile(page))
app.exec()
"""


class Elements(HTMLParser):
    """Every element with its attributes and the names of those around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self._around: list[str] = []
        self.feed(page)
        self.close()
        assert not self._around

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), list(self._around)))
        if tag not in ("meta", "img", "source", "wbr"):
            self._around.append(tag)

    def handle_endtag(self, tag):
        assert self._around.pop() == tag

    def of(self, tag: str) -> list[tuple[dict, list[str]]]:
        return [(attributes, around) for name, attributes, around in self.found if name == tag]


@pytest.fixture
def page(tmp_path) -> str:
    (tmp_path / "curve.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (1500).to_bytes(4, "big"))
    table = document.Table(["a_layer", "mean (95 % interval)"], [["x<y", "1.0 ± 0.2 (2 of 3 seeds)"]], texts=1)
    heading, figure = document.Heading("A report", 1), document.Figure("curve.png", "A curve.", b"dark")
    document.write([heading, table, figure], tmp_path)
    return (tmp_path / "report.html").read_text()


def test_a_page_fits_the_width_of_a_phone(page):
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert (viewport, ["html", "head"]) in Elements(page).of("meta")


def test_a_table_scrolls_in_a_box_of_its_own_that_the_keyboard_reaches(page):
    ((_, around),) = Elements(page).of("table")
    ((attributes, _),) = Elements(page).of("div")
    assert around == ["html", "body", "div"] and attributes == {"class": "wide", "tabindex": "0"}
    assert ".wide { overflow-x: auto;" in page


def test_cells_break_where_they_can_be_read(page):
    assert "<td>1.0 ±&nbsp;0.2 (2&nbsp;of&nbsp;3&nbsp;seeds)</td>" in page
    assert "<th>mean (95&nbsp;%&nbsp;interval)</th>" in page
    assert '<th class="text">a_<wbr>layer</th>' in page and '<td class="text">x&lt;y</td>' in page


def test_a_dark_page_has_dark_pictures(page):
    ((attributes, around),) = Elements(page).of("source")
    assert around == ["html", "body", "figure", "picture"]
    assert attributes == {"media": "(prefers-color-scheme: dark)", "srcset": "data:image/png;base64,ZGFyaw=="}
    ((image, _),) = Elements(page).of("img")
    assert image["width"] == "1200" and image["alt"] == "curve"
    assert "color-scheme: light dark" in page and "@media (prefers-color-scheme: dark)" in page


@pytest.mark.slow
def test_in_a_browser_no_column_is_cut_and_the_dark_page_is_dark(tmp_path):
    """Keeps pictures of the page beside it: `pytest -m slow --basetemp DIR`."""
    pytest.importorskip("PyQt6.QtWebEngineWidgets", reason="pip install PyQt6-WebEngine")
    write_report([STUDY], tmp_path, threshold=0.999)

    def look(width: int, colours: str = "light") -> dict:
        picture = tmp_path / f"{width}_{colours}.png"
        flags = "--disable-gpu" + " --blink-settings=preferredColorScheme=0" * (colours == "dark")
        environment = {
            "HOME": str(tmp_path),
            "QT_QPA_PLATFORM": "offscreen",
            "QTWEBENGINE_CHROMIUM_FLAGS": flags,
            "QTWEBENGINE_DISABLE_SANDBOX": "1",  # Chromium's needs another user than root
        }
        command = [sys.executable, "-c", BROWSER, str(tmp_path / "report.html"), str(picture), str(width)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0 and picture.stat().st_size > 10_000, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    for width in (1280, 1024, 800, 390):
        seen = look(width)
        assert seen["page"] <= 0, width  # nothing makes the whole page scroll sideways
        assert seen["background"] == "rgb(255, 255, 255)"
        assert seen["pictures"] == [[True, True]] * 4
        assert all(beyond <= 0 for beyond in seen["tables"]) == (width >= 800)  # a phone scrolls within the box
    dark = look(1280, "dark")
    assert dark["background"] == "rgb(26, 26, 26)" and dark["pictures"] == [[False, True]] * 4
