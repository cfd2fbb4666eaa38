"""Checkpoints are written atomically, two are kept, and a damaged one is never restored."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from distilspark.config import TrainConfig, flatten
from distilspark.training.checkpoint.store import (
    MAX_AGE,
    SWITCHED_OFF,
    CheckpointFolder,
    interrupted_run_id,
    open_checkpoints,
    relevant_settings,
    training_fingerprint,
)
from helpers.texts import lines_with

Composer = Callable[..., TrainConfig]
EMA_DECAY = "training.ema_decay=0.9"


def arrays(value: float) -> dict[str, Any]:
    return {"network/0": np.full((100, 100), value, np.float32), "network/1": np.array([7, 1], np.uint32)}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """A folder in which three checkpoints were saved."""
    folder = CheckpointFolder(tmp_path / "training")
    for number in range(3):
        folder.save(arrays(number), {"run": f"run {number}", "loss": 0.1 + number})
    return folder


def files(folder: CheckpointFolder) -> list[Path]:
    return sorted(folder.path.iterdir())


def test_latest_checkpoint_is_read_bit_identically(folder: CheckpointFolder) -> None:
    latest = CheckpointFolder(folder.path).latest
    assert latest is not None
    assert latest.state == {"run": "run 2", "loss": 2.1}
    assert set(latest.arrays()) == set(arrays(2))
    for name, array in arrays(2).items():
        np.testing.assert_array_equal(latest.arrays()[name], array)
        assert latest.arrays()[name].dtype == array.dtype


def test_two_checkpoints_are_kept(folder: CheckpointFolder) -> None:
    assert [file.name.partition("-")[0] for file in files(folder)] == ["00000002", "00000003"]


def test_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").latest is None
    assert not (tmp_path / "none").exists()


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_damaged_checkpoint_falls_back_to_the_one_before(
    folder: CheckpointFolder, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before, newest = files(folder)
    damage(newest)
    latest = CheckpointFolder(folder.path).latest
    assert latest is not None and latest.file == before and latest.state["run"] == "run 1"
    assert lines_with(capsys.readouterr().out, "checkpoint", str(newest), "damaged")
    assert files(folder) == [before]


def test_training_starts_over_if_all_checkpoints_are_damaged(
    folder: CheckpointFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = files(folder)
    for file in damaged:
        cut(file)
    assert CheckpointFolder(folder.path).latest is None
    printed = capsys.readouterr().out
    assert all(lines_with(printed, str(file), "damaged") for file in damaged)
    folder.save(arrays(9), {"run": "new"})
    assert len(files(folder)) == 1


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make writes beyond this size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_failed_write_leaves_the_other_checkpoints(folder: CheckpointFolder) -> None:
    before = files(folder)
    with largest_file(20_000), pytest.raises(OSError):
        folder.save(arrays(3), {"run": "too large"})
    assert files(folder) == before
    latest = CheckpointFolder(folder.path).latest
    assert latest is not None and latest.state["run"] == "run 2"


def test_partial_file_of_a_killed_process_is_deleted(folder: CheckpointFolder) -> None:
    before = files(folder)
    (folder.path / "00000004.partial").write_bytes(before[-1].read_bytes()[:5000])
    assert CheckpointFolder(folder.path).latest is not None
    assert files(folder) == before


@pytest.fixture
def config(compose_config: Composer, cache: Path) -> TrainConfig:
    return compose_config("model=tiny")


def test_checkpoints_are_deleted_after_success(config: TrainConfig, cache: Path) -> None:
    with open_checkpoints(config) as folder:
        assert folder is not None
        folder.save(arrays(1), {"run": "a"})
        assert folder.path.parent == cache / "training"
    assert list((cache / "training").iterdir()) == []


def test_checkpoints_survive_failures_until_resume_is_false(config: TrainConfig, compose_config: Composer) -> None:
    with pytest.raises(KeyboardInterrupt), open_checkpoints(config) as folder:
        assert folder is not None and interrupted_run_id(folder) is None
        folder.save(arrays(1), {"run": "a"})
        raise KeyboardInterrupt
    with pytest.raises(ValueError), open_checkpoints(config) as folder:
        assert interrupted_run_id(folder) == "a"
        raise ValueError
    with open_checkpoints(compose_config("model=tiny", "training.resume=false")) as folder:
        assert folder is not None and folder.latest is None and not folder.path.exists()


def test_failure_before_the_first_checkpoint_leaves_nothing(config: TrainConfig, cache: Path) -> None:
    with pytest.raises(ValueError), open_checkpoints(config):
        raise ValueError
    assert list((cache / "training").iterdir()) == []


def test_second_process_gets_no_checkpoints(
    config: TrainConfig, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache / "training").mkdir(parents=True)
    with FileLock(cache / "training" / f"{training_fingerprint(config)}.lock"), open_checkpoints(config) as folder:
        assert folder is None
    assert "another process" in capsys.readouterr().out


def test_unwritable_folder_only_disables_checkpoints(
    compose_config: Composer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with open_checkpoints(compose_config("model=tiny", f"training.checkpoints={tmp_path / 'file'}")) as folder:
        assert folder is None
    assert "no checkpoints:" in capsys.readouterr().out


def test_checkpoint_every_null_writes_nothing(compose_config: Composer, cache: Path) -> None:
    with open_checkpoints(compose_config("model=tiny", "training.checkpoint_every=null")) as folder:
        assert folder is None
    assert not cache.exists()


def test_abandoned_checkpoints_are_deleted(config: TrainConfig, cache: Path) -> None:
    old, running, recent = (CheckpointFolder(cache / "training" / name) for name in ("old", "running", "recent"))
    for each in (old, running, recent):
        each.save(arrays(1), {})
    for each in (old, running):  # one of them since the clock was set
        os.utime(each.path, (time.time() - MAX_AGE - 60,) * 2)
    with FileLock(f"{running.path}.lock"), open_checkpoints(config):
        assert {file.name for file in (cache / "training").iterdir() if file.is_dir()} == {"running", "recent"}
    assert not (cache / "training" / "old.lock").exists()


def test_fingerprint_depends_only_on_settings_that_affect_the_weights(compose_config: Composer) -> None:
    same = [[], ["spark.driver_memory=9g"], ["training.checkpoint_every=1 steps"], ["training.resume=false"]]
    assert len({training_fingerprint(compose_config("model=tiny", *overrides)) for overrides in same}) == 1
    other = [["training.seed=2"], ["training.epochs=9"], ["task=stsb"], ["data.path=/x"], ["registry.name=x"]]
    assert len({training_fingerprint(compose_config("model=tiny", *overrides)) for overrides in [[], *other]}) == 6


def test_fingerprint_ignores_settings_that_are_switched_off(compose_config: Composer) -> None:
    """Otherwise a training could not resume after a version adds such a setting."""
    default = flatten(compose_config("model=tiny", "training.precision=float32"))  # auto is the machine's choice
    settings = relevant_settings(default)
    assert not {key for key, (_, dependent) in SWITCHED_OFF.items() for key in (key, *dependent)} & set(settings)
    for key, (neutral, dependent) in SWITCHED_OFF.items():
        assert default[key] == neutral, f"{key} is switched on by default"
        assert dependent <= set(default)
    averaged = [["training.averaging=ema"], ["training.averaging=soup"], ["training.averaging=ema", EMA_DECAY], []]
    assert len({training_fingerprint(compose_config("model=tiny", *overrides)) for overrides in averaged}) == 4
    assert training_fingerprint(compose_config("model=tiny", EMA_DECAY)) == training_fingerprint(
        compose_config("model=tiny")
    )
