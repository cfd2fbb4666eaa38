"""A stream survives a failure or a kill at every operation on its files, and a kill at every write of its checkpoint.

Spark writes the checkpoint in its JVM, only before and after a batch. The folder that a kill leaves there is put
together from copies of an uninterrupted stream's folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame

from distilspark.config import PredictConfig
from distilspark.errors import UserError, WorkError
from distilspark.package.load import TaskModel
from distilspark.scoring import stream
from distilspark.scoring.model_udf import make_udf
from helpers.crash_points import KilledError, crash_points, operations
from helpers.scorings import Scoring

pytestmark = pytest.mark.slow
INPUT = {"a.txt": ["The cat sleeps.", "It is."], "b.txt": ["The dog barks."]}
OLDER = ["An older line."]
SETTINGS = (
    "predict.overwrite=true",
    "predict.streaming=true",
    "predict.available_now=true",
    "predict.files_per_batch=1",
)
MOST = 1  # number of crash points in either test without --all-crash-points


@dataclass(frozen=True)
class Stream:
    """Return a stream that writes to `scored` in a new folder."""

    score: Scoring
    place: Path
    config: PredictConfig
    model: TaskModel

    def prepare(self) -> None:
        """Delete all files except an older output, which the stream replaces."""
        shutil.rmtree(self.place, ignore_errors=True)
        (self.place / "scored").mkdir(parents=True)
        pd.DataFrame({"sentence1": OLDER}).to_parquet(self.place / "scored/part-0.parquet")
        (self.place / "scored/_manifest.json").write_text("{}")

    def start(self) -> None:
        stream.score_stream(self.score.spark, self.config, self.model, lambda *_: None)

    def rows(self) -> pd.DataFrame:
        """Return the rows of all batches; a kill can change which files are in which batch."""
        parts = [pd.read_parquet(folder) for folder in self.place.glob("scored/batch=*")]
        return pd.concat(parts).sort_values("sentence1", ignore_index=True)

    def left_behind(self) -> set[Path]:
        """Return temporary files and folders, and a lock; the checksums beside Spark's files stay."""
        hidden = set(self.place.rglob(".*")) - {file.with_name(f".{file.name}.crc") for file in self.place.rglob("*")}
        return hidden | set(self.place.glob("scored/_stream/batch=*"))


@dataclass(frozen=True)
class KilledWrite:
    """Kill the process while Spark writes a checkpoint file, or between the renames of the file and of its checksum."""

    before: Path  # a copy of the stream's folder
    after: Path  # a later one
    earlier: list[Path]  # the files of `after` that were written by then
    file: Path
    is_renamed: bool

    def leave(self, place: Path) -> None:
        """Write the folder as the kill leaves it."""
        shutil.copytree(self.before, place)
        for file in [*self.earlier, self.file]:
            target = place / file.relative_to(self.after)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
            checksum = f".{file.name}.crc"
            if file != self.file:
                shutil.copy(file.with_name(checksum), target.with_name(checksum))
        if not self.is_renamed:
            target.rename(target.with_name(f".{target.name}.1a2b.tmp")).write_bytes(file.read_bytes()[:9])
        target.with_name(f"..{target.name}.1a2b.tmp.crc").touch()


def killed_writes(copies: list[Path]) -> Iterator[KilledWrite]:
    """Yield the kills at every write of the checkpoint between copies of the stream's folder."""
    for before, after in pairwise(copies):
        there = [file for file in after.glob("scored/_stream/checkpoint/**/[!.]*") if file.is_file()]
        new = [file for file in there if not (before / file.relative_to(after)).exists()]
        new.sort(key=lambda file: file.stat().st_mtime_ns)
        for number, file in enumerate(new):
            for is_renamed in (False, True):
                yield KilledWrite(before, after, new[:number], file, is_renamed)


@pytest.fixture
def make_stream(score: Scoring, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Stream]:
    """Return a function that makes a stream with so many files in each batch."""
    score_batch = stream._BatchScorer.__call__

    def end_killed(batches: stream._BatchScorer, rows: DataFrame, number: int) -> None:
        try:
            score_batch(batches, rows, number)
        except KilledError as error:
            raise RuntimeError from error  # Spark would wait for an answer to its call for ever

    def make(files: int) -> Stream:
        for name, lines in INPUT.items():
            score.text(lines, f"inbox/{name}")
        place = score.folder / "place"
        settings = [*SETTINGS, f"predict.files_per_batch={files}", f"output='{place / 'scored'}'"]
        config = score.config(score.folder / "inbox", *settings)
        model = score.fetch(config)
        udf = cache(lambda: make_udf(score.spark, config, model))
        monkeypatch.setattr(stream, "make_udf", lambda *_: udf())
        monkeypatch.setattr(stream._BatchScorer, "__call__", end_killed)
        return Stream(score, place, config, model)

    return make


def test_stream_resumes_after_every_crash_point_without_lost_or_duplicate_rows(
    make_stream: Callable[[int], Stream], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replace an older output by a stream with all files in one batch."""
    streamed = make_stream(2)
    streamed.prepare()
    with operations(streamed.place) as counted:
        streamed.start()
    expected = streamed.rows()
    assert len(expected) == 3
    points = crash_points(len(counted.done), None if request.config.getoption("--all-crash-points") else MOST)
    for k, kind in points:
        streamed.prepare()
        with operations(streamed.place, k, kind) as failing, suppress(UserError, WorkError, KilledError):
            streamed.start()
        where = f"{kind} at {k}: {failing.done[k - 1]}"
        streamed.start()
        pd.testing.assert_frame_equal(streamed.rows(), expected, obj=where)
        assert not streamed.left_behind(), where
    with capsys.disabled():
        print(f" [stream: {len(counted.done)} operations, {len(points)} crash points]", end="")


def test_stream_resumes_after_a_kill_at_every_write_of_its_checkpoint(
    make_stream: Callable[[int], Stream],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    streamed, copies = make_stream(1), list[Path]()

    def copy() -> None:
        copies.append(streamed.place.with_name(f"copy-{len(copies)}"))
        shutil.copytree(streamed.place, copies[-1])

    def surround_with_copies(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            copy()
            returned = function(*arguments)
            copy()
            return returned

        return call

    with monkeypatch.context() as changed:
        for owner, name in ((stream, "_start"), (stream._BatchScorer, "__call__")):
            changed.setattr(owner, name, surround_with_copies(getattr(owner, name)))
        streamed.start()
    copy()
    expected = streamed.rows()
    kills = list(killed_writes(copies))
    assert len(kills) == 14  # two of the metadata, and six of each batch
    chosen = kills if request.config.getoption("--all-crash-points") else kills[-MOST:]
    for kill in chosen:
        shutil.rmtree(streamed.place)
        kill.leave(streamed.place)
        streamed.start()
        pd.testing.assert_frame_equal(streamed.rows(), expected, obj=str(kill))
        assert not streamed.left_behind(), kill
        manifest = json.loads((streamed.place / "scored/_manifest.json").read_text())
        assert manifest["rows"]["in"] == len(expected), kill
    with capsys.disabled():
        print(f" [checkpoint: {len(kills) // 2} writes, {len(chosen)} kills]", end="")
