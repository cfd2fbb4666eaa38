"""The hub's availability check and file downloads, against a fake hub on 127.0.0.1."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import distilspark.console
from distilspark import hub
from distilspark.errors import UserError
from helpers.fake_hub import serve_hub, silent_hub

REVISION = "a" * 40


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache for each test, and the network allowed."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with one file of a model and one of a dataset; yields the folder that it serves."""
    for folder in ("hub/org/model", "hub/datasets/org/data/sub"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "hub/org/model/config.json").write_text("{}")
    (tmp_path / "hub/datasets/org/data/sub/train.parquet").write_bytes(b"PAR1" * 100)
    with serve_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield tmp_path / "hub"


def test_files_are_fetched_once_and_then_cached(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("org/data", "sub/train.parquet", REVISION, "dataset")
    assert hub.cached_file(*arguments) is None
    fetched = hub.fetch_file(*arguments)
    assert fetched.read_bytes() == b"PAR1" * 100
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.fetch_file(*arguments) == hub.cached_file(*arguments) == fetched


@pytest.mark.parametrize("is_terminal", [True, False])
def test_download_shows_a_progress_bar_only_on_a_terminal(
    served: Path, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(distilspark.console, "terminal", Console(file=shown, force_terminal=is_terminal))
    hub.fetch_file("org/model", "config.json", REVISION)
    assert ("config.json" in shown.getvalue() and "0.00/2.00" in shown.getvalue()) is is_terminal
    assert capfd.readouterr().err == ""


def test_model_file_is_fetched(served: Path) -> None:
    assert hub.fetch_file("org/model", "config.json", REVISION).read_text() == "{}"


@pytest.mark.parametrize("repository, file", [("org/model", "none.json"), ("org/none", "config.json")])
def test_missing_file_or_repository_is_named_in_the_error(served: Path, repository: str, file: str) -> None:
    with pytest.raises(UserError, match=f"cannot fetch {repository}/{file} @ {REVISION} from http"):
        hub.fetch_file(repository, file, REVISION)


@pytest.mark.slow
def test_hub_that_does_not_answer_delays_less_than_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_hub() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        start = time.monotonic()
        with pytest.raises(UserError, match=f"config.json .* {url} "):
            hub.fetch_file("org/model", "config.json", REVISION)
        assert not hub.hub_answers()
        assert time.monotonic() - start < 5


@pytest.mark.slow
def test_name_server_that_hangs_delays_less_than_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hangs.invalid")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(60))
    start = time.monotonic()
    assert not hub.hub_answers()
    assert time.monotonic() - start < 5


def test_offline_mode_refuses_to_fetch(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.hub_answers()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.hub_answers()
    with pytest.raises(UserError, match="HF_HUB_OFFLINE "):
        hub.fetch_file("org/model", "config.json", REVISION)
