"""MLflow's UI in a headless Chromium, for tests that look at it as a person does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

SECONDS = 90  # for anything to appear; the machine may have other things to do
SEEN_BEFORE = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.workflowType_v1": '"machine_learning"'}


@dataclass(frozen=True)
class Ui:
    """A page of the UI, and where its pictures go."""

    page: Page
    url: str
    pictures: Path

    def open(self, path: str) -> None:
        """Go to a page; whatever the one before it showed is gone."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{path}")

    def take_picture(self, name: str) -> None:
        """Save what is seen, once it stands still."""
        self.page.mouse.move(0, 0)
        before = b""
        for _ in range(SECONDS):
            seen = self.page.screenshot()
            if seen == before:
                break
            before = seen
            self.page.wait_for_timeout(1000)
        else:
            pytest.fail(f"{name}: the page does not come to rest")
        self.pictures.mkdir(parents=True, exist_ok=True)
        (self.pictures / f"{name}.png").write_bytes(seen)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def looking(browser: Browser, url: str, pictures: Path) -> Iterator[Ui]:
    """A new page of a person who has seen the UI before."""
    expect.set_options(timeout=SECONDS * 1000)
    context = browser.new_context(viewport={"width": 1440, "height": 560})
    context.set_default_timeout(SECONDS * 1000)
    for key, value in SEEN_BEFORE.items():
        context.add_init_script(f"localStorage.setItem({key!r}, {value!r})")
    try:
        yield Ui(context.new_page(), url, pictures)
    finally:
        context.close()
