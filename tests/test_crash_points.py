"""Checkpoints, the cache and registry aliases after a failure or a kill at every operation on their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
from numpy.typing import NDArray

from distilspark.cache import cached_folder
from distilspark.config import TrainConfig
from distilspark.errors import UserError, WorkError
from distilspark.tracking.aliases import move_aliases, read_aliases
from distilspark.training.checkpoint.store import open_checkpoints
from helpers.crash_points import KilledError, crash_points, operations
from helpers.stores import tracking_in

STEPS = 3  # one more than the number of checkpoints kept
FAILURES = (OSError, UserError, WorkError, KilledError)


def train(config: TrainConfig) -> NDArray[np.float64]:
    """Take steps that each depend on the previous weights, and save a checkpoint after each."""
    with open_checkpoints(config) as folder:
        weights, start = np.full((20, 20), 0.1), 0
        if folder and folder.latest:
            weights, start = folder.latest.arrays()["weights"], folder.latest.state["step"]
        for step in range(start, STEPS):
            weights = np.sin(weights * 7 + step)
            if folder:
                with suppress(OSError):  # like the training's callback
                    folder.save({"weights": weights}, {"step": step + 1})
    return weights


def test_training_ends_with_the_same_weights_after_every_crash_point(
    compose_config: Callable[..., TrainConfig], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose_config("model=tiny")
    with operations(cache) as counted:
        expected = train(config)
    assert {each.split()[0] for each in counted.done} == {"create", "write", "rename", "list", "delete"}
    points = crash_points(len(counted.done))
    for k, kind in points:
        shutil.rmtree(cache)
        with operations(cache, k, kind), suppress(*FAILURES):
            np.testing.assert_array_equal(train(config), expected)
        np.testing.assert_array_equal(train(config), expected)
        assert not list((cache / "training").iterdir()), f"{kind} at {k}: {counted.done[k - 1]}"
    with capsys.disabled():
        print(f" [checkpoints: {len(counted.done)} operations, {len(points)} crash points]", end="")


def build(folder: Path) -> None:
    (folder / "deep").mkdir()
    for name in ("weights", "deep/config"):
        (folder / name).write_text(name * 20)


def is_whole(folder: Path) -> bool:
    try:
        return all((folder / name).read_text() == name * 20 for name in ("weights", "deep/config"))
    except OSError:
        return False


@pytest.mark.parametrize("damaged", [False, True])
def test_cached_folder_is_complete_after_every_crash_point(
    cache: Path, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    def prepare() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        if damaged:
            (cache / "made" / "deep").mkdir(parents=True)
            (cache / "made" / "weights").write_text("half")

    prepare()
    with operations(cache) as counted:
        cached_folder("made", build, is_whole)
    points = crash_points(len(counted.done))
    for k, kind in points:
        prepare()
        with operations(cache, k, kind), suppress(*FAILURES):
            assert is_whole(cached_folder("made", build, is_whole))
        assert is_whole(cached_folder("made", build, is_whole))
        assert {file.name for file in cache.iterdir()} == {"made", "made.lock"}, f"{kind} at {k}: {counted.done[k - 1]}"
    with capsys.disabled():
        print(f" [cache: {len(counted.done)} operations, {len(points)} crash points]", end="")


def promote(name: str) -> None:
    """Make the challenger champion, like the gate."""
    aliases = read_aliases(name)
    if aliases["champion"] != aliases["challenger"]:
        move_aliases(name, aliases, {"previous": aliases["champion"], "champion": aliases["challenger"]})


def test_aliases_are_correct_after_every_crash_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Covers operations on the lock file; the store itself uses transactions."""
    with tracking_in(tmp_path):
        client = mlflow.MlflowClient()
        client.create_registered_model("made")
        for _ in range(2):
            client.create_model_version("made", source=str(tmp_path))

        def prepare() -> None:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            client.set_registered_model_alias("made", "champion", "1")
            client.set_registered_model_alias("made", "challenger", "2")
            if "previous" in read_aliases("made"):
                client.delete_registered_model_alias("made", "previous")

        prepare()
        with operations(tmp_path / "cache") as counted:
            promote("made")
        points = crash_points(len(counted.done))
        for k, kind in points:
            prepare()
            with operations(tmp_path / "cache", k, kind), suppress(*FAILURES):
                promote("made")
            assert read_aliases("made")["champion"] in ("1", "2")
            promote("made")
            assert read_aliases("made") == {"previous": "1", "champion": "2", "challenger": "2"}
    with capsys.disabled():
        print(f" [registry's lock: {len(counted.done)} operations, {len(points)} crash points]", end="")
