"""The location of the user's cache, and its lock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from filelock import FileLock

from distilspark import cache as user_cache
from distilspark.cache import cache_root, cached_folder
from distilspark.errors import UserError


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have places of their own")
@pytest.mark.parametrize("base", [None, "elsewhere"])
def test_default_cache_on_linux_is_in_the_users_cache_folder(
    base: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTILSPARK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if base:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / base))
    assert cache_root() == tmp_path / (base or ".cache") / "distilspark"


def test_cache_folder_can_be_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISTILSPARK_CACHE", "~/own")
    assert cache_root() == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILSPARK_CACHE", "relative")
    assert cache_root() == tmp_path / "relative"


def test_builder_that_does_not_end_is_named_in_the_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cache, "BUILD_SECONDS", 0.2)
    cache.mkdir()
    with (
        FileLock(cache / "model.lock"),
        pytest.raises(UserError, match=f"another process has been making {cache}/model for 0.2 seconds"),
    ):
        cached_folder("model", Path.touch)
