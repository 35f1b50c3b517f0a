"""Takes the pictures of docs/guide/explorer.md.

Run ``python docs/screenshots.py``; it needs Chromium.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from leadline.explore import open_rooms
from leadline.explore.server._server import Server

PICTURES = {
    "explorer-gradients": ("gradients?start=nilpotent&time=30", {"color_scheme": "light"}),
    "explorer-dark": ("gradients?cell=LSTM&gate_bias=4", {"color_scheme": "dark"}),
    "explorer-search": ("search", {"color_scheme": "light"}),
    "explorer-representation": (
        "representation?data=glyphs&kind=masked+patches&ratio=0.5&patch=4",
        {"color_scheme": "light"},
    ),
}
"""Address and settings of the browser, by the name of the file."""

PATIENCE = 120_000
"""Milliseconds after which a page that shows no figure is an error, also on a busy machine."""


def main() -> None:
    """Write all pictures."""
    server = Server(open_rooms(), port=0).start()
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (at, options) in PICTURES.items():
            page = browser.new_context(
                viewport={"width": 1280, "height": 900}, **options
            ).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(server.url(at))
            page.locator(".js-plotly-plot .main-svg").first.wait_for()
            page.locator(".words:not(:empty)").first.wait_for()
            page.locator("[id$=-code]:not(:empty)").first.wait_for(
                state="attached"
            )  # an answer's last line
            page.wait_for_timeout(500)
            page.screenshot(path=Path(__file__).parent / "guide" / f"{name}.png")
        browser.close()
    server.stop()


if __name__ == "__main__":
    main()
