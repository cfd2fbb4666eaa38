"""A stream scores each new file once, like a batch, regardless of how an earlier start ended."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distilspark.errors import UserError, WorkError
from distilspark.scoring import chunks
from distilspark.scoring.job import ScoringResult
from distilspark.scoring.stream import score_stream
from helpers.scorings import Scoring, compose_predict

pytestmark = pytest.mark.slow
SMALL = "predict.rows_per_chunk=20"


@dataclass
class Stream:
    """Scores the files in `inbox`, then ends."""

    score: Scoring
    told: list[tuple[int, int, int]] = field(default_factory=list)  # batch, its rows, all rows of this process
    total: ScoringResult | None = None

    def __call__(self, *overrides: str, **which: Any) -> pd.DataFrame:
        """Return the output sorted by `text`; empty if there is none."""
        settings = ["predict.streaming=true", "predict.available_now=true"]
        config = self.score.config(self.inbox, *settings, *overrides, **which)
        self.told.clear()

        def tell(number: int, batch: ScoringResult, total: ScoringResult) -> None:
            self.told.append((number, batch.manifest["rows"]["in"], total.manifest["rows"]["in"]))

        self.total = score_stream(self.score.spark, config, self.score.fetch(config), tell)
        return self.read(config.predict.format)

    def read(self, kind: str = "parquet") -> pd.DataFrame:
        if not self.batches:
            return pd.DataFrame()
        options = {"mergeSchema": True} if kind == "parquet" else {"header": True}
        rows = self.score.spark.read.format(kind).options(**options).load(str(self.score.output)).toPandas()
        return with_text(rows).sort_values(["text", "batch"], ignore_index=True)

    @property
    def inbox(self) -> Path:
        return self.score.folder / "inbox"

    @property
    def memory(self) -> Path:
        return self.score.output / "_stream"

    @property
    def batches(self) -> list[str]:
        return sorted(folder.name for folder in self.score.output.glob("batch=*"))

    def put(self, name: str, lines: list[str]) -> Path:
        return self.score.text(lines, f"inbox/{name}")


@pytest.fixture
def stream(score: Scoring) -> Stream:
    (score.folder / "inbox").mkdir()
    return Stream(score)


def with_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a column `text`, from `sentence1` (plain files) or `sentence` (CoLA's own)."""
    return rows.assign(text=rows.get("sentence", rows.get("sentence1")).fillna(rows.get("sentence1", "")))


def lines(name: str, count: int) -> list[str]:
    return [f"The {name} number {number} was not it." for number in range(count)]


def test_stream_predicts_the_same_as_a_batch(stream: Stream) -> None:
    stream.put("a.txt", lines("dog", 30))
    stream.put("deep/b.csv", ["sentence,n", *(f"{line},{place}" for place, line in enumerate(lines("cat", 25))), ","])
    stream.put("deep/c.jsonl", ['{"sentence": "It is.", "m": 4}', '{"sentence": 5}', "{broken"])
    stream.put("_hidden.txt", ["hidden"])
    stream.put(".hidden/d.txt", ["hidden"])
    allowed = "predict.max_error_fraction=1"
    together = with_text(stream.score(stream.inbox, allowed))
    shutil.rmtree(stream.score.output)
    rows = stream("predict.files_per_batch=1", allowed)
    assert len(rows) == len(together) == 59
    assert [number for number, *_ in stream.told] == [0, 1, 2]
    columns = ["text", "prediction", "label", "score", "error", "model_version"]
    expected = together.sort_values(columns, ignore_index=True)
    found = rows.sort_values(columns, ignore_index=True)
    pd.testing.assert_frame_equal(found[columns], expected[columns], atol=1e-5)
    assert stream.score.manifest["rows"] == {"in": 59, "scored": 56, "failed": 3, "cut": 0}
    assert stream.score.manifest["batches"] == 3
    assert stream.total is not None
    assert sum(stream.total.profile["predictions"].values()) == stream.total.profile["rows"] == 56


def test_restarted_stream_scores_only_new_files(stream: Stream, saved: Callable[[str], Path]) -> None:
    """Also with a new model, which scores only the files that follow."""
    stream.put("a.txt", lines("dog", 3))
    assert len(stream()) == 3
    assert len(stream()) == 3
    assert (stream.told, stream.total) == ([], None)
    old = stream.put("z.txt", lines("cat", 4))
    os.utime(old, (time.time() - 90 * 86400,) * 2)  # written long before it was moved here
    other = shutil.copytree(saved("cola"), stream.score.folder / "other")
    rows = stream(model=other)
    assert rows["text"].tolist() == sorted(lines("dog", 3) + lines("cat", 4))
    assert set(rows["model_version"][rows["batch"] == 0]) == {str(saved("cola"))}
    assert set(rows["model_version"][rows["batch"] == 1]) == {str(other)}
    assert stream.told == [(1, 4, 4)]
    assert stream.score.manifest["rows"]["in"] == 7
    with pytest.raises(UserError, match="already"):
        stream.score(stream.inbox)


def test_a_file_with_several_links_is_scored_once(stream: Stream) -> None:
    inbox, outside = stream.inbox, stream.score.text(lines("cat", 4), "outside.txt")
    file = stream.put("m.txt", lines("dog", 3))
    (inbox / "a.txt").symlink_to(file)
    (inbox / "b.txt").symlink_to(outside)
    (inbox / "c.txt").symlink_to(outside)
    assert len(stream("predict.files_per_batch=1")) == 7
    (inbox / "d.txt").symlink_to(outside)
    (inbox / "n.txt").hardlink_to(stream.put("e.txt", lines("fox", 2)))
    assert len(stream()) == 9
    known = json.loads((stream.memory / "links.json").read_text())
    assert len(known) == 3


def test_published_batch_is_not_scored_again(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a kill after a batch's publication and before Spark's commit."""
    stream.put("a.txt", lines("dog", 3))
    stream()
    stream.put("b.txt", lines("cat", 4))
    before = stream()
    for note in stream.memory.glob("checkpoint/commits/*1*"):
        note.unlink()
    (stream.memory / "batch=00001").mkdir()
    stream.put("c.txt", lines("bird", 2))
    rows = stream()
    assert rows["text"].tolist() == sorted([*before["text"], *lines("bird", 2)])
    assert stream.told == [(2, 2, 2)]
    assert stream.score.manifest["rows"]["in"] == 9
    assert [path.name for path in stream.memory.iterdir() if path.is_dir()] == ["checkpoint"]


def test_stopped_batch_resumes_at_its_next_chunk(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.put("a.txt", lines("dog", 50))
    real, scored = chunks._score_chunk, []

    def stops(*arguments: Any) -> Any:
        if len(scored) == 2:
            raise WorkError("stopped")
        scored.append(arguments[-1].name)
        return real(*arguments)

    monkeypatch.setattr(chunks, "_score_chunk", stops)
    with pytest.raises(WorkError, match="stopped"):
        stream(SMALL)
    assert not stream.batches
    monkeypatch.setattr(chunks, "_score_chunk", lambda *given: scored.append(given[-1].name) or real(*given))
    stream.put("b.txt", lines("cat", 5))
    rows = stream(SMALL)
    assert scored == ["00000", "00001", "00002", "00000"]  # the last is from the second batch
    assert rows["text"].tolist() == sorted(lines("dog", 50) + lines("cat", 5))
    assert [number for number, *_ in stream.told] == [0, 1]


def test_unreadable_file_ends_the_stream_and_is_scored_once_repaired(stream: Stream) -> None:
    stream.put("a.txt", lines("dog", 3))
    stream()
    good = stream.score.folder / "good.parquet"
    pd.DataFrame({"sentence": lines("cat", 4)}).to_parquet(good)
    bad = stream.inbox / "b.parquet"
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(UserError, match=r"\bb\.parquet "):
        stream()
    assert stream.batches == ["batch=00000"]
    shutil.copy(good, bad)
    assert stream()["text"].tolist() == sorted(lines("dog", 3) + lines("cat", 4))


def test_stream_continues_after_an_unreadable_file_is_removed(stream: Stream) -> None:
    bad = stream.put("bad.parquet", ["PAR1 and no more"])
    with pytest.raises(UserError, match=r"bad\.parquet "):
        stream()
    bad.unlink()
    stream.put("a.txt", lines("dog", 3))
    assert len(stream()) == 3


def test_too_many_errors_end_the_stream_and_the_batch_is_not_scored_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.put("a.txt", lines("dog", 300))
    stream()
    stream.put("b.txt", ["", "The dog."])
    with pytest.raises(WorkError, match=r"^1 of 2 .*predict\.max_error_fraction=0\.01"):
        stream()
    assert stream.batches == ["batch=00000"]
    monkeypatch.setattr(chunks, "score_rows", None)
    rows = stream("predict.max_error_fraction=0.5")
    assert rows["error"].value_counts().to_dict() == {"": 301, "sentence1 is empty": 1}
    assert stream.score.manifest["errors"] == {"sentence1 is empty": 1}


def test_files_without_rows_are_skipped(stream: Stream) -> None:
    stream.put("a.txt", [])
    assert len(stream()) == 0
    assert stream.total is None
    stream.put("b.csv", ["batch,sentence", "7,The dog."])
    rows = stream()
    assert rows["input_batch"].tolist() == ["7"]
    assert rows["batch"].tolist() == [1]


def test_output_folder_of_another_stream_or_without_a_manifest_is_refused(stream: Stream) -> None:
    stream.put("a.txt", lines("dog", 3))
    stream("predict.format=csv")
    with pytest.raises(UserError, match=r"stream.*format .*csv\b.*predict\.overwrite=true"):
        stream()
    with pytest.raises(UserError, match=r"stream.*task .*cola"):
        stream("predict.format=csv", task="stsb")
    assert len(stream("predict.overwrite=true")) == 3
    shutil.rmtree(stream.score.output)
    stream.score.text(["precious"], "scored/notes.txt")
    with pytest.raises(UserError, match=r"has no _manifest\.json"):
        stream("predict.overwrite=true")
    assert (stream.score.output / "notes.txt").is_file()


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["input='${oc.env:INBOX}/a.txt'"], r"a\.txt\b.*folder"),
        (["input='${oc.env:INBOX}/nothing'"], "nothing "),
        (["output='${oc.env:INBOX}/scored'"], "output=.*input="),
        (["input='${oc.env:INBOX}/..'"], "output=.*input="),
    ],
)
def test_input_and_output_folders_that_do_not_fit_are_refused(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, overrides: list[str], said: str
) -> None:
    stream.put("a.txt", lines("dog", 3))
    monkeypatch.setenv("INBOX", str(stream.inbox))
    with pytest.raises(UserError, match=said):
        stream(*overrides)
    assert not list(stream.score.folder.glob("**/_stream"))


def test_available_now_needs_streaming() -> None:
    with pytest.raises(UserError, match=r"predict\.streaming=true"):
        compose_predict("input=x", "output=y", "predict.available_now=true")


def test_manifest_of_a_batch_lists_its_files(stream: Stream) -> None:
    stream.put("a b%20c.txt", lines("dog", 3))
    stream()
    manifest = json.loads((stream.score.output / "batch=00000" / "_manifest.json").read_text())
    (file,) = manifest["input"]
    assert file["uri"].endswith("/inbox/a b%20c.txt")
    assert file["size"] == len("".join(f"{line}\n" for line in lines("dog", 3)))
    assert abs(file["modified"] / 1000 - (stream.inbox / "a b%20c.txt").stat().st_mtime) < 1
    assert manifest["rows"] == {"in": 3, "scored": 3, "failed": 0, "cut": 0}
