"""The scoring job: every input row is in the output once, with an answer or an error."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from distilspark.errors import UserError, WorkError
from distilspark.package.load import load_task_model
from distilspark.package.pyfunc import Scorer
from distilspark.scoring import chunks, job, staging
from distilspark.scoring.model_udf import make_udf
from distilspark.workflows import predict
from helpers.scorings import Scoring, compose_predict, count_jobs

pytestmark = pytest.mark.slow
TEXTS = ["A cat sleeps.", "Cat a the sleeps on.", "The dog, 3 birds & a cow", "Birds"]
ANSWERS = ["prediction", "label", "score", "error", "model_version"]


def expected(package: Callable[..., Path], task: str, **texts: list[str]) -> pd.DataFrame:
    return Scorer(package(task)).predict(pd.DataFrame(texts))


def test_plain_text_is_read_as_one_row_per_line(score: Scoring, package: Callable[..., Path]) -> None:
    rows = score(score.text(TEXTS))
    assert rows.columns.tolist() == ["sentence1", *ANSWERS]
    assert rows["sentence1"].tolist() == TEXTS
    wanted = expected(package, "cola", sentence1=TEXTS)
    assert rows["label"].tolist() == wanted["label"].tolist()
    np.testing.assert_allclose(rows["score"], wanted["score"], atol=1e-5)
    assert rows["error"].tolist() == [""] * 4
    assert rows["prediction"].tolist() == wanted["prediction"].tolist()
    assert score.manifest["rows"] == {"in": 4, "scored": 4, "failed": 0, "cut": 0}
    assert score.manifest["drift"] == []  # the package has no profile


def test_rows_with_equal_texts_are_scored_once(score: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is the same as without deduplication; rows with an error are never duplicates."""
    asked = score.spark.sparkContext.accumulator(0)

    @pandas_udf("boolean")  # type: ignore[call-overload]
    def count(texts: pd.DataFrame) -> pd.Series:
        asked.add(int(texts.notna().any(axis=1).sum()))
        return texts.iloc[:, 0].isna() | True

    def make_counting_udf(*arguments: Any) -> Any:
        udf = make_udf(*arguments)
        return lambda texts: F.when(count(texts), udf(texts))

    monkeypatch.setattr(predict, "make_udf", make_counting_udf)
    texts = [*TEXTS, None, *reversed(TEXTS), TEXTS[0], None, TEXTS[0].upper()]
    pairs = pd.DataFrame({"sentence1": texts, "sentence2": ["The end."] * 11 + [None]})
    for task, frame, scored in (("cola", pairs[["sentence1"]].set_axis(["sentence"], axis=1), 10), ("stsb", pairs, 9)):
        source, calls = score.folder / f"{task}.parquet", []
        frame.to_parquet(source)
        tables = []
        for dedupe in ("false", "true"):
            before = asked.value
            changed = [f"predict.dedupe={dedupe}", "predict.max_error_fraction=1", "predict.overwrite=true"]
            tables.append(score(source, *changed, task=task))
            calls.append(asked.value - before)
        pd.testing.assert_frame_equal(*tables)
        assert calls == [scored, scored - 5], task
        assert score.manifest["rows"]["scored"] == scored
        assert score.manifest["rows"]["repeated"] == 5


def test_output_of_pairs_keeps_all_columns_and_renames_conflicting_ones(
    score: Scoring, package: Callable[..., Path]
) -> None:
    frame = pd.DataFrame(
        {
            "key": [7, 7, 9],  # duplicates are kept
            "sentence1": TEXTS[:3],
            "sentence2": TEXTS[1:],
            "label": [0.0, 2.5, 5.0],
            "prediction": ["x", "y", "z"],
            "when": pd.to_datetime(["2024-01-01"] * 3),
            "tags": [["a"], [], None],
        }
    )
    frame.to_parquet(score.folder / "pairs.parquet")
    rows = score(score.folder / "pairs.parquet", task="stsb")
    own = ["key", "sentence1", "sentence2", "label", "input_prediction", "when", "tags"]
    assert rows.columns.tolist() == [*own, "prediction", "error", "model_version"]
    assert rows["key"].tolist() == [7, 7, 9]
    assert rows["input_prediction"].tolist() == ["x", "y", "z"]
    assert rows["tags"].iloc[0].tolist() == ["a"]
    wanted = expected(package, "stsb", sentence1=TEXTS[:3], sentence2=TEXTS[1:])
    np.testing.assert_allclose(rows["prediction"], wanted["prediction"], atol=1e-5)


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_every_output_format_has_the_same_rows(score: Scoring, kind: str) -> None:
    frame = pd.DataFrame({"sentence": ['Say "no",\ntwice', "", "é 🙂"], "n": [1, 2, 3], "list": [[1, 2], None, []]})
    frame.to_parquet(score.folder / "rows.parquet")
    allowed = "predict.max_error_fraction=0.5"
    rows = score(score.folder / "rows.parquet", f"predict.format={kind}", allowed)
    assert rows["sentence"].fillna("").tolist() == frame["sentence"].tolist()
    assert rows["n"].astype(int).tolist() == [1, 2, 3]
    assert rows["error"].fillna("").tolist() == ["", "sentence1 is empty", ""]
    assert rows["prediction"].isna().tolist() == [False, True, False]
    assert rows["score"].isna().tolist() == [False, True, False]
    assert rows["label"].isna().tolist() == [False, True, False]
    assert (json.loads(rows["list"][0]) if kind == "csv" else list(rows["list"][0])) == [1, 2]


def test_every_json_line_is_in_the_output_with_an_answer_or_an_error(score: Scoring) -> None:
    lines = [
        '{"sentence": "fine", "n": 1}',
        '{"sentence": null}',
        '{"sentence": 5, "late": "column"}',
        '{"sentence": ["a"]}',
        '{"sentence": ""}',
        "{broken",
        '{"sentence": "nul \\u0000 in it"}',
        '{"sentence": "🙂 emoji \\ud83d\\ude00"}',
        json.dumps({"sentence": "long " * 3000}),
        '{"n": 5}',
        '{"sentence": "fine", "sentence": "twice"}',
    ]
    bounds = ["predict.max_error_fraction=1", "predict.max_characters=10000"]
    rows = score(score.text(lines, "rows.jsonl"), *bounds)
    assert len(rows) == len(lines)
    assert rows["error"].tolist() == [
        "",
        "sentence1 is missing",
        "sentence1 is not text but a number",
        "sentence1 is not text but a list",
        "sentence1 is empty",
        "not a JSON object",
        "",
        "",
        "sentence1 has 15000 characters, more than 10000",
        "sentence1 is missing",
        "",
    ]
    assert rows["prediction"].notna().equals(rows["error"] == "")
    assert rows["late"].tolist()[2] == "column"
    assert score.manifest["rows"] == {"in": 11, "scored": 4, "failed": 7, "cut": 0}
    assert score.manifest["errors"]["sentence1 has too many characters, more than 10000"] == 1


def test_invalid_bytes_of_plain_text_are_row_errors(score: Scoring) -> None:
    content = b"good one\nbad \xff\xfe one\nnul \0 byte\n\xf0\x9f\x99\x82 emoji\n\nlast without end"
    rows = score(score.bytes(content, "rows.txt"), "predict.max_error_fraction=1")
    assert rows["error"].tolist() == ["", "sentence1 is not valid UTF-8", "", "", "sentence1 is empty", ""]
    assert rows["sentence1"].tolist()[2:] == ["nul \0 byte", "🙂 emoji", "", "last without end"]


def test_line_of_ten_megabytes_is_a_row_error(score: Scoring) -> None:
    long = "word " * 2_000_000
    rows = score(score.text(["before", long, "after"]), "predict.max_error_fraction=0.5")
    assert rows["error"].tolist() == ["", "sentence1 has 10000000 characters, more than 1000000", ""]
    assert len(rows["sentence1"][1]) == 10_000_000
    assert rows["prediction"].notna().tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["rows.tsv", "rows.csv"])
def test_nul_bytes_in_csv_and_tsv_are_kept_as_text(score: Scoring, name: str) -> None:
    end = "," if name.endswith("csv") else "\t"
    lines = [f"sentence{end}n", f"a\0b{end}1", f"\0first{end}2", f"last{end}3", f"one column too many{end}4{end}5"]
    rows = score(score.text(lines, name), "predict.max_error_fraction=1")
    assert rows["sentence"].tolist()[:3] == ["a\0b", "\0first", "last"]
    assert rows["error"].tolist()[:3] == ["", "", ""]
    assert "columns" in rows["error"][3]
    assert len(rows) == 4


def test_output_may_have_only_rows_with_errors(score: Scoring) -> None:
    rows = score(score.text(["sentence,n", "a,b,c"], "rows.csv"), "predict.max_error_fraction=1")
    assert rows["error"].tolist() == ["3 columns instead of 2"]
    assert rows["prediction"].isna().all()


def test_single_row_is_scored_into_one_file(score: Scoring) -> None:
    rows = score(score.text(["One."]))
    assert rows["error"].tolist() == [""]
    assert len(list(score.output.glob("part-*"))) == 1


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv"])
def test_a_small_input_needs_few_spark_jobs(score: Scoring, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each Spark job takes a large part of a second, also with labels."""
    source = score.text(["sentence,label", "One,0", "Two,1", "Three,1"][name == "rows.txt" :], name)
    config, read, ingest = score.config(source), [], job.ingest

    def counts(*arguments: Any) -> Any:
        plan = ingest(*arguments)
        read.append(count_jobs(score.spark))
        return plan

    monkeypatch.setattr(job, "ingest", counts)
    before = count_jobs(score.spark)
    score.run(config)
    assert read[0] - before <= 2, "reading and numbering the rows"
    assert count_jobs(score.spark) - read[0] <= 3, "scoring them, their figures, the output"


def test_input_without_rows_gives_an_empty_output(score: Scoring) -> None:
    rows = score(score.text(["sentence,n"], "rows.csv"))
    assert rows.columns.tolist() == ["sentence", "n", *ANSWERS]
    assert len(rows) == 0
    assert score.manifest["rows"] == {"in": 0, "scored": 0, "failed": 0, "cut": 0}


def test_empty_file_is_refused_alone_but_skipped_in_a_folder(score: Scoring) -> None:
    empty = score.bytes(b"", "many/empty.csv")
    with pytest.raises(UserError, match=r"rows: .*empty\.csv "):
        score(empty)
    score.text(["sentence", "One"], "many/rows.csv")
    score.bytes(gzip.compress(b""), "many/zipped.csv.gz")
    assert score(empty.parent)["sentence"].tolist() == ["One"]
    assert len(score.manifest["input"]) == 3


def test_corrupt_file_in_a_folder_is_named_and_no_output_is_written(score: Scoring) -> None:
    many = score.folder / "many"
    many.mkdir()
    frame = pd.DataFrame({"sentence": TEXTS * 50})
    for name in ("a", "b", "c"):
        frame.to_parquet(many / f"{name}.parquet")
    whole = (many / "b.parquet").read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        b"PAR1" + bytes(len(whole) - 8) + b"PAR1",
        whole[:200] + b"\xff" * 300 + whole[500:],
    ):
        (many / "b.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match=r"\bb\.parquet "):
            score(many)
        assert not score.output.exists()
    (many / "b.parquet").write_bytes(whole)
    assert len(score(many)) == 600


def test_files_of_different_formats_in_one_folder_are_scored(score: Scoring) -> None:
    score.text(["sentence,n", "One,1"], "many/a.csv")
    score.text(["n,sentence", "2,Two"], "many/deep/b.csv")
    score.text(["sentence\tn", "Three\t3"], "many/c.tsv")
    score.text(['{"sentence": "Four", "m": 4}'], "many/d.jsonl")
    score.text(["sentence", "hidden"], "many/_hidden.csv")
    pd.DataFrame({"sentence": ["Five"], "n": [5], "when": [pd.Timestamp("2024-01-01")]}).to_parquet(
        score.folder / "many" / "e.parquet"
    )
    score.text(["Six"], "many/f.txt")
    rows = score(score.folder / "many")
    assert set(rows["sentence"].fillna(rows["sentence1"])) == {"One", "Two", "Three", "Four", "Five", "Six"}
    assert rows.set_index("sentence")["n"].dropna().to_dict() == {"One": "1", "Two": "2", "Three": "3", "Five": "5"}
    assert (rows["error"] == "").all()


def test_globs_and_unusual_names_are_scored(score: Scoring) -> None:
    for name in ("my [rows] é 1%", "my [rows] é 2%"):
        score.text(TEXTS, f"{name}/part.txt")
    assert len(score(score.folder / r"my \[rows\] é *" / "*.txt")) == 8
    shutil.rmtree(score.output)
    assert len(score(score.folder / "my [rows] é 1%")) == 4
    shutil.rmtree(score.output)
    for nothing in ("nothing*", "nothing"):
        with pytest.raises(UserError, match="does not exist"):
            score(score.folder / nothing)
    (score.folder / "empty").mkdir()
    with pytest.raises(UserError, match="holds no data files"):
        score(score.folder / "empty")


def test_output_is_not_replaced_without_overwrite(score: Scoring) -> None:
    source = score.text(TEXTS)
    score(source)
    with pytest.raises(UserError, match=r"already.*predict\.overwrite=true"):
        score(source)
    assert len(score(score.text(TEXTS[:2], "other.txt"), "predict.overwrite=true")) == 2
    assert not list(score.folder.glob(".scored*"))


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_edited_output_file_can_be_read_by_spark(score: Scoring, kind: str) -> None:
    """Hadoop keeps checksum files and refuses a local file that differs from its own."""
    score(score.text(TEXTS), f"predict.format={kind}")
    assert not list(score.output.glob(".*"))
    (file,) = score.output.glob("part-*")
    if kind == "parquet":
        pd.read_parquet(file).head(2).to_parquet(file)
    else:
        file.write_text(file.read_text().replace("Birds", "Bees"))
    assert score.read(kind)["sentence1"].tolist() == (TEXTS[:2] if kind == "parquet" else [*TEXTS[:3], "Bees"])


def test_output_folder_that_appears_during_scoring_is_not_replaced(
    score: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without overwrite. The scored rows are kept and published once the folder is gone."""
    write_output, calls = job.write_output, []

    def appears(*arguments: Any) -> None:
        write_output(*arguments)
        calls.append(1)
        score.output.mkdir()
        (score.output / "mine.txt").write_text("mine")

    monkeypatch.setattr(job, "write_output", appears)
    source = score.text(TEXTS)
    for allowed, said in (("false", "already exists"), ("true", "no scored output")):
        with pytest.raises(UserError, match=said):
            score(source, f"predict.overwrite={allowed}")
        assert [file.name for file in score.output.iterdir()] == ["mine.txt"]
        shutil.rmtree(score.output)
    monkeypatch.undo()
    monkeypatch.setattr(chunks, "_score_chunk", None)  # no chunk is scored again
    assert len(score(source)) == len(TEXTS)


def test_scoring_stops_when_another_takes_over_its_staging_folder(
    score: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from another machine, without a shared lock; every row is in the output once."""
    texts = [f"Line {number}." for number in range(96)]
    source, real, calls = score.text(texts), chunks._score_chunk, []

    def overtaken(*arguments: Any) -> Any:
        calls.append(arguments[-1].name)
        if len(calls) == 2:
            monkeypatch.setattr(predict, "lock_output", lambda paths: nullcontext())
            assert score(source, "predict.rows_per_chunk=32")["sentence1"].tolist() == texts
        return real(*arguments)

    monkeypatch.setattr(chunks, "_score_chunk", overtaken)
    with pytest.raises(WorkError, match="deleted"):
        score(source, "predict.rows_per_chunk=32")
    assert score.read()["sentence1"].tolist() == texts
    assert calls == ["00000", "00001", "00001", "00002"]


@pytest.mark.parametrize("step", ["rows", "mark", "output"])
def test_scoring_that_lost_ownership_writes_nothing_more(
    score: Scoring, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    module, name = {"rows": (chunks, "plan_chunks"), "mark": (chunks, "_score_chunk"), "output": (job, "write_output")}[
        step
    ]
    real = getattr(module, name)

    def taken_over(*arguments: Any) -> Any:
        owner = score.staging / "owner.json"
        owner.write_text(json.dumps(json.loads(owner.read_text()) | {"id": "another", "host": "there"}))
        (score.staging / ".owner.json.crc").unlink(missing_ok=True)
        return real(*arguments)

    monkeypatch.setattr(module, name, taken_over)
    with pytest.raises(WorkError, match=r"another .*process \d+ on there"):
        score(score.text(TEXTS))
    assert not score.output.exists()
    assert (score.staging / "chunks.json").exists() == (step != "rows")
    assert (score.staging / "done").exists() == (step == "output")
    monkeypatch.undo()
    assert len(score(score.folder / "rows.txt")) == len(TEXTS)


def test_scoring_killed_after_publication_is_finished_by_the_next(
    score: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = score.text(TEXTS)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, "clean_up", killed)
    with pytest.raises(KeyboardInterrupt):
        score(source)
    assert score.output.exists() and score.staging.exists()
    monkeypatch.undo()
    assert len(score(source)) == len(TEXTS)
    with pytest.raises(UserError, match="already"):
        score(source)


def test_overwrite_only_replaces_what_scoring_wrote(score: Scoring) -> None:
    source = score.text(TEXTS)
    score.text(["precious"], "scored/notes.txt")
    with pytest.raises(UserError, match=r"has no _manifest\.json"):
        score(source, "predict.overwrite=true")
    with pytest.raises(UserError, match="holds the input"):
        score(score.output / "notes.txt", "predict.overwrite=true")
    assert (score.output / "notes.txt").read_text() == "precious\n"


def test_job_with_too_many_errors_fails_and_resumes_without_scoring_again(
    score: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = score.text([*TEXTS, ""])
    with pytest.raises(WorkError, match=r"^1 of 5 .*max_error_fraction=0\.01.*1 row: sentence1 "):
        score(source)
    assert not score.output.exists()
    monkeypatch.setattr(chunks, "score_rows", None)
    assert len(score(source, "predict.max_error_fraction=0.2")) == 5


def test_interrupted_job_resumes_at_its_next_chunk(score: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    source = score.text([f"Line {number}." for number in range(100)])
    small = "predict.rows_per_chunk=30"
    real, scored = chunks._score_chunk, []

    def stops(*arguments: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(arguments[-1].name)
        return real(*arguments)

    monkeypatch.setattr(chunks, "_score_chunk", stops)
    with pytest.raises(KeyboardInterrupt):
        score(source, small)
    assert not score.output.exists()
    with pytest.raises(UserError, match=r"unfinished.* settings\b.*predict\.overwrite=true"):
        score(source, small, "predict.max_characters=50")
    with monkeypatch.context() as newer:
        newer.setattr(staging, "STAGING_VERSION", staging.STAGING_VERSION + 1)
        with pytest.raises(UserError, match=r"unfinished.* layout\b"):
            score(source, small)
    with pytest.raises(UserError, match=r"unfinished.* input\b"):
        score(score.text(["another"], "other.txt"), small)

    def goes_on(*arguments: Any) -> Any:
        scored.append(arguments[-1].name)
        return real(*arguments)

    monkeypatch.setattr(chunks, "_score_chunk", goes_on)
    rows = score(source, small)
    assert scored == ["00000", "00001", "00002", "00003"]
    assert rows["sentence1"].tolist() == [f"Line {number}." for number in range(100)]


def test_duplicate_rows_are_all_in_the_output(score: Scoring) -> None:
    rows = score(score.text(["idx,sentence", *["7,The dog."] * 3, "7,The cat."], "rows.csv"))
    assert rows["idx"].tolist() == ["7"] * 4
    assert rows["sentence"].tolist() == ["The dog."] * 3 + ["The cat."]
    assert score.manifest["rows"]["scored"] == 4


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A one-megabyte file system for one test."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("file systems can only be mounted by root")

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
        return disk

    try:
        yield remount
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # Spark may still hold a file open


def test_unwritable_output_folder_is_refused(score: Scoring, mount: Callable[[str], Path]) -> None:
    source = score.text(TEXTS)
    for folder in (source, mount("ro")):  # root ignores permissions
        with pytest.raises(UserError, match=rf"output=file:{folder}/scored .*\bfolder\b"):
            score.run(score.config(source, f"output='{folder}/scored'"))


@pytest.mark.parametrize(
    "module, step, call, left",
    [
        (job, "ingest", 1, ["00000", "00001"]),
        (chunks, "_score_chunk", 2, ["00001"]),
        (job, "write_output", 1, []),
    ],
)
def test_job_resumes_after_a_full_disk(
    score: Scoring,
    mount: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    call: int,
    left: list[str],
) -> None:
    """The disk fills while the input is copied, while the second chunk is scored, or while the output is written."""
    disk, texts = mount("rw"), [f"Line {number}." for number in range(96)]
    config = score.config(score.text(texts), f"output='{disk}/scored'", "predict.rows_per_chunk=48")
    real, calls = getattr(module, step), []

    def fills(*arguments: Any) -> Any:
        calls.append(step)
        if len(calls) == call:
            fill(disk)
        return real(*arguments)

    monkeypatch.setattr(module, step, fills)
    with pytest.raises(WorkError, match="No space left on device"):
        score.run(config)
    assert not (disk / "scored").exists()
    monkeypatch.undo()
    (disk / "filler").unlink()
    score_chunk, scored = chunks._score_chunk, []
    monkeypatch.setattr(chunks, "_score_chunk", lambda *each: scored.append(each[-1].name) or score_chunk(*each))
    score.run(config)
    assert scored == left
    assert pd.read_parquet(disk / "scored")["sentence1"].tolist() == texts


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def test_model_of_another_task_or_a_missing_model_is_refused(score: Scoring, saved: Callable[[str], Path]) -> None:
    source = score.text(TEXTS)
    with pytest.raises(UserError, match=r"\bstsb\b"):
        score(source, model=saved("stsb"))
    with pytest.raises(UserError, match=r"model_uri=.*nowhere"):
        score(source, model=score.folder / "nowhere")


def test_spark_runs_the_model_once_per_row(score: Scoring, saved: Callable[[str], Path]) -> None:
    """Several fields of the answer are read; Spark must not run the model once for each."""
    config = compose_predict("input=x", "output=y", f"model_uri='{saved('cola')}'")
    scratch = score.folder / "fetched"
    scratch.mkdir()
    model = load_task_model(config.model_uri, config.task, scratch, config.registry)
    schema = "input struct<a:string>, row bigint, sentence1 string, label double, problem string"
    rows = score.spark.createDataFrame([(("a",), 1, "a", None, None)], schema)
    plan = chunks.score_rows(rows, config, make_udf(score.spark, config, model))
    assert str(plan._jdf.queryExecution().executedPlan()).count("ArrowEvalPython") == 1
