"""Takes the pictures of docs/guide/explorer.md: ``python docs/screenshots.py``, with Chromium installed."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from leadline.explore import open_rooms
from leadline.explore.server import Server

PICTURES = {
    "explorer-gradients": ("gradients?start=nilpotent&time=30", {"color_scheme": "light"}),
    "explorer-dark": ("gradients?cell=LSTM&gate_bias=4", {"color_scheme": "dark"}),
}
"""Address and the browser's settings, by the name of the file."""


def main() -> None:
    """Write all of them."""
    server = Server(open_rooms(), port=0).start()
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (at, options) in PICTURES.items():
            page = browser.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
            page.goto(server.url(at))
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            page.locator(".words", has_text=":").first.wait_for()
            page.wait_for_timeout(500)
            page.screenshot(path=Path(__file__).parent / "guide" / f"{name}.png")
        browser.close()
    server.stop()


if __name__ == "__main__":
    main()
