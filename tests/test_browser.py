"""Every page opened in Chromium, wide and narrow: nothing overflows, is missing or shows as markup.

Run by `make test-browser`, with Playwright and the Chromium of the system.
"""

import os
import re
import shutil

import documents
import pytest
from markdown_it import MarkdownIt

pytestmark = pytest.mark.browser
ROOT = documents.ROOT
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
         *documents.existing()]
WIDTHS = (1280, 880, 390)
# As GitHub shows Markdown: tables and code scroll in their own box, pictures shrink.
SHELL = """<!doctype html><meta charset="utf-8"><style>
body {{ font: 16px sans-serif; max-width: 980px; margin: 0 auto; padding: 16px;
        overflow-wrap: break-word }}
table, pre {{ display: block; overflow-x: auto; max-width: 100% }}
img {{ max-width: 100% }}
</style><body>{}</body>"""
RAW = re.compile(r"\*\*\w|\]\((?:http|#|\w+\.)|^\s*\|[-: |]+\|\s*$|^#{1,6} |```|\$\$|</?\w+>", re.M)
OVERFLOW = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
OWN = "[...document.images].filter(i => !/^http/.test(i.src))"  # badges come from elsewhere
MISSING = OWN + ".filter(i => !(i.complete && i.naturalWidth > 40)).map(i => i.alt)"
SMALL = OWN + ".filter(i => i.naturalWidth && i.width < 300).map(i => i.width)"
# Open tables that a reader would have to scroll, or that reach out of their place.
WIDE = """[...document.querySelectorAll('table')].filter(t => !t.closest('details:not([open])')
&& (t.scrollWidth > t.clientWidth + 1 || t.offsetWidth > t.parentElement.clientWidth + 1))
.map(t => t.innerText.slice(0, 40))"""
EMPTY = """[...document.querySelectorAll('details')].filter(d => d.children.length < 2)
.map(d => d.innerText)"""  # nothing to open
# The text of a page, from which code, that may look like Markdown, is taken out.
TEXT = """(() => { document.querySelectorAll('pre, code, .jp-InputArea').forEach(e => e.remove());
return document.body.innerText })()"""


def as_html(path):
    """A page as a reader sees it: a notebook by nbconvert, Markdown in the manner of GitHub."""
    if path.suffix == ".ipynb":
        return documents.as_html(documents.read(path), path)
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    return SHELL.format(renderer.render(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def browser():
    """The Chromium of the system; CHROMIUM names another one."""
    from playwright.sync_api import sync_playwright
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.fail("no Chromium: install it (Debian: apt install chromium), or set CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def problems(page):
    """What a reader would stumble over."""
    found = []
    if (excess := page.evaluate(OVERFLOW)) > 1:
        found.append(f"wider than the window by {excess} pixels")
    if page.viewport_size["width"] >= 880:
        found += [f"a wide table: {text!r}" for text in page.evaluate(WIDE)]
    found += [f"nothing in: {name}" for name in page.evaluate(EMPTY)]
    found += [f"no picture: {name}" for name in page.evaluate(MISSING)]
    found += [f"a picture of {width} pixels" for width in page.evaluate(SMALL)]
    return found + [f"markup: {match[0]!r}" for match in RAW.finditer(page.evaluate(TEXT))]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_reads_well(browser, path, width, tmp_path):
    shutil.copytree(ROOT / "results" / "figures", tmp_path / "results" / "figures")
    source = tmp_path / f"{path.stem}.html"
    source.write_text(as_html(path), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(source.as_uri(), wait_until="load")
    name = "-".join(path.relative_to(ROOT).with_suffix("").parts)
    shot = ROOT / "build" / "screenshots" / f"{name}-{width}.png"
    page.screenshot(path=shot, full_page=True)  # to look at
    assert problems(page) == []


@pytest.mark.parametrize(("body", "problem"), [
    ("<table><tr><td>" + "word&nbsp;" * 90 + "</table>", "a wide table: 'word"),
    ("<div style='width: 3000px'>wide</div>", "wider than the window"),
    ("<img src='nowhere.png' alt='a map'>", "no picture: a map"),
    ("<details><summary>More</summary></details>more", "nothing in: More"),
    ("<p>see [here](#there)</p>", "markup: ']"), ("<p>**bold**</p>", "markup: '**b'"),
    ("<p>| a | b |<br>|---|---|</p>", "markup: '|---")])
def test_a_bad_page_is_found(browser, body, problem):
    page = browser.new_page(viewport={"width": 880, "height": 900})
    page.set_content(SHELL.format(body))
    assert any(problem in found for found in problems(page)), problems(page)
