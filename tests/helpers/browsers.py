"""MLflow's UI in a headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

SECONDS = 90  # timeout for anything to appear, long enough for a busy machine
SEEN_BEFORE = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.workflowType_v1": '"machine_learning"'}


@dataclass(frozen=True)
class Ui:
    """A page of the UI, and the folder for its screenshots."""

    page: Page
    url: str
    pictures: Path

    def open(self, path: str) -> None:
        """Go to a page, after clearing the previous one."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{path}")

    def take_picture(self, name: str) -> None:
        """Save a screenshot once the page no longer changes."""
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
    """Start the system's Chromium, or skip the test if there is none."""
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
    """Open a new page with the first-visit dialogs switched off."""
    expect.set_options(timeout=SECONDS * 1000)
    context = browser.new_context(viewport={"width": 1440, "height": 560})
    context.set_default_timeout(SECONDS * 1000)
    for key, value in SEEN_BEFORE.items():
        context.add_init_script(f"localStorage.setItem({key!r}, {value!r})")
    try:
        yield Ui(context.new_page(), url, pictures)
    finally:
        context.close()
