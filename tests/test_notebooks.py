"""A notebook is executed, converted to HTML, and shown by a browser; marimo shows its cells."""

import base64
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbconvert
import pytest
from playwright.sync_api import Browser, Route
from plotly.offline import get_plotlyjs

from leadline import decoding, explore
from leadline.figures import _notebook as notebook
from tests.explore.browser import chromium, needs_chromium

CELLS = [
    """from leadline import decoding
table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7}, ("b",): {"a": -0.1}})
decoded = decoding.beam_search(*table.problem(), width=1, max_length=2, trace=True)
decoded""",
    "decoding.audit(*table.problem(), decoded)",
]

EXECUTE_AND_CONVERT = """
import sys
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

cells = [nbformat.v4.new_code_cell(source) for source in {cells!r}]
book = nbformat.v4.new_notebook(cells=cells)
NotebookClient(book, timeout=300, kernel_name="python3").execute()
nbformat.write(book, "book.ipynb")
page, _ = HTMLExporter().from_notebook_node(book)
open("book.html", "w", encoding="utf-8").write(page)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the executed notebook and its HTML page."""
    folder = tmp_path_factory.mktemp("notebook")
    # nbconvert's templates are installed beside it, and Jupyter looks for them in its own paths.
    templates = Path(nbconvert.__file__).parents[4] / "share" / "jupyter"
    places = {name: str(folder) for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR")}
    environment = {**os.environ, **places, "JUPYTER_PATH": str(templates)}
    code = EXECUTE_AND_CONVERT.format(cells=CELLS)
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def outputs(folder: Path) -> list[dict[str, Any]]:
    book = json.loads((folder / "book.ipynb").read_text("utf-8"))
    return [cell["outputs"][0]["data"] for cell in book["cells"]]


def test_each_cell_has_a_figure_a_picture_and_a_text(outputs):
    for data in outputs:
        assert set(data) == {"text/plain", "text/html", "image/png", notebook.PLOTLY}
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert data[notebook.PLOTLY]["layout"]["title"]["text"]
    assert "".join(outputs[0]["text/plain"]).startswith("Decoded('beam search returns")


def test_a_cell_is_smaller_than_300_kb(outputs):
    for data in outputs:
        assert len(json.dumps(data)) < 300_000


def test_the_page_has_a_picture_for_each_figure_and_no_copy_of_plotly(folder):
    page = (folder / "book.html").read_text("utf-8")
    assert len(re.findall(r'<img alt="[^"]+" src="data:image/png;base64,', page)) == len(CELLS)
    assert "plotly.js v" not in page
    assert len(page) < 1_200_000, "nbconvert's own styles have 0.3 MB"


def serve_plotly(route: Route, requests: list[str]) -> None:
    """Answer a request for Plotly's script, and refuse all other requests to servers."""
    url, _ = notebook._script()
    if route.request.url != url:
        route.abort()
        return
    requests.append(url)
    headers = {"Access-Control-Allow-Origin": "*"}
    route.fulfill(body=get_plotlyjs(), content_type="text/javascript", headers=headers)


@needs_chromium
def test_a_browser_loads_plotly_once_and_draws_every_figure(browser: Browser, folder: Path):
    requests: list[str] = []
    page = browser.new_page()
    page.route(re.compile("^http"), lambda route: serve_plotly(route, requests))
    page.goto((folder / "book.html").as_uri())
    page.wait_for_selector(".js-plotly-plot >> nth=1")
    assert len(requests) == 1
    assert page.locator(".js-plotly-plot").count() == len(CELLS)
    page.close()


@needs_chromium
def test_without_a_connection_the_pictures_stay(browser: Browser, folder: Path):
    page = browser.new_page()
    page.route(re.compile("^http"), lambda route: route.abort())
    page.goto((folder / "book.html").as_uri())
    page.wait_for_timeout(300)
    assert page.locator(".js-plotly-plot").count() == 0
    pictures = page.locator("div[class^=leadline-] img")
    assert pictures.count() == len(CELLS)
    assert pictures.first.evaluate("picture => picture.naturalWidth") > 700
    page.close()


def traced() -> decoding.Decoded:
    table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7}, ("b",): {"a": -0.1}})
    return decoding.beam_search(*table.problem(), width=1, max_length=2, trace=True)


def as_in_marimo(output: Any) -> str:
    """Return what marimo 0.25 shows of an output: HTML with a script is put into a frame."""
    content = output._repr_html_()
    assert "<script" in content
    return f'<iframe srcdoc="{html.escape(content)}" width="100%" height="400px"></iframe>'


@needs_chromium
@pytest.mark.parametrize("is_online", [True, False])
def test_a_frame_of_marimo_shows_the_figure_or_without_a_connection_the_picture(
    browser: Browser, is_online: bool
):
    requests: list[str] = []
    page = browser.new_page()
    page.route(
        re.compile("^http"),
        lambda route: serve_plotly(route, requests) if is_online else route.abort(),
    )
    page.set_content(as_in_marimo(traced()))
    frame = page.frame_locator("iframe")
    if is_online:
        frame.locator(".js-plotly-plot").wait_for()
        assert len(requests) == 1
    else:
        picture = frame.locator("div[class^=leadline-] img")
        picture.wait_for()
        assert picture.evaluate("picture => picture.naturalWidth") > 700
        assert frame.locator(".js-plotly-plot").count() == 0
    page.close()


@needs_chromium
def test_a_frame_of_marimo_shows_the_explorer_in_full_height(browser: Browser):
    page = browser.new_page()
    page.set_content(as_in_marimo(explore.gradients(time=7)))
    explorer = page.frame_locator("iframe").frame_locator("iframe")
    explorer.locator(".js-plotly-plot").first.wait_for()
    box = page.locator("iframe").bounding_box()
    assert box is not None
    assert box["height"] > 900
    page.close()


@pytest.mark.parametrize("output", [traced, lambda: explore.gradients(time=7)])
def test_the_formatter_of_marimo_shows_the_html_of_an_output(output):
    formatting = pytest.importorskip("marimo._output.formatting", reason="marimo is not installed")
    shown = formatting.try_format(output())
    assert shown.exception is None
    assert shown.mimetype == "text/html"
    assert "data:image/png;base64," in html.unescape(shown.data)
