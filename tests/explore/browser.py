"""A browser for the tests, which records console errors and requests to other servers."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from leadline.explore.page._room import Room
from leadline.explore.server._server import Server

CHROMIUM = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]

expect.set_options(timeout=20_000)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


class Visitor:
    """A visitor of a server's pages; :meth:`leave` asserts that no page had an error."""

    def __init__(self, browser: Browser, server: Server):
        self.browser, self.server = browser, server
        self.contexts, self.complaints, self.foreign = [], [], []

    def open(self, at: str = "gradients", **options) -> Page:
        """Open a page in a new context, and wait for its first figure or error."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        context.route(re.compile("^(?!data:|blob:)"), self._through)
        return self.tab(context, at)

    def tab(self, context, at: str) -> Page:
        page = context.new_page()
        page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(at if at.startswith("http") else self.server.url(at))
        page.locator(".js-plotly-plot .main-svg, [id$=-trouble]:not(:empty)").first.wait_for()
        return page

    def _through(self, route) -> None:
        if route.request.url.startswith(self.server.url()):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def leave(self) -> None:
        for context in self.contexts:
            context.close()
        assert self.complaints == []
        assert self.foreign == []


def words(page: Page, room: Room, card: str):
    return page.locator(f"#{room.id(card, 'words')}")


def settled(page: Page, room: Room, query: str) -> None:
    """Wait until the page shows the answer to these settings."""
    expect(page).to_have_url(re.compile(re.escape(f"/{room.name}{query}") + "$"))
