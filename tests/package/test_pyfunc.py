"""The packaged model: one answer for each row in order, loaded once a process, with the task's number of threads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distilspark.errors import UserError
from distilspark.model.tiny import SPECIALS
from distilspark.package import pyfunc, runtime
from distilspark.package.pyfunc import PARAMS, Scorer, _load_pyfunc
from distilspark.paths import ROOT

Package = Callable[..., Path]
CLASSIFIED = ["prediction", "label", "score", "error", "tokens", "unknown_tokens"]
GOOD = "It is the dog."
# a row's value and the end of its error message; None if the row is scored
VALUES: list[tuple[Any, str | None]] = [
    (None, "is missing"),
    (float("nan"), "is missing"),
    (np.float32("nan"), "is missing"),
    (pd.NA, "is missing"),
    (pd.NaT, "is missing"),
    (7, "is not text"),
    (1.5, "is not text"),
    (True, "is not text"),
    (b"It is.", "is not text"),
    (["It is."], "is not text"),
    (np.array(["It is.", None], dtype=object), "is not text"),
    ({"text": "It is."}, "is not text"),
    ("", "is empty"),
    (" \t\r\n\u00a0", "is empty"),
    ("It \ufffd is.", "is not valid UTF-8"),
    ("It \ud800 is.", "is not valid UTF-8"),
    ("\udfff", "is not valid UTF-8"),
    ("x" * 1_000_001, "has 1000001 characters, more than 1000000"),
    ("It is. " * 1_500_000, "has 10500000 characters, more than 1000000"),
    ("x" * 10_000, None),
    ("It is \U0001f600.", None),
    ("It\0is\0.", None),
    ("\0", None),
    ("\u65e5\u672c", None),
    ("e\u0301\u200d\u202e.", None),
    ("[CLS] [PAD] [SEP]", None),
    ("\n.", None),
]


def frame(values: list[Any], **others: list[Any]) -> pd.DataFrame:
    columns = {"sentence1": values, **others}
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()})


def test_only_invalid_rows_have_an_error(package: Package) -> None:
    values = [part for value, _ in VALUES for part in (value, GOOD)]
    answer = Scorer(package("cola")).predict(frame(values))
    assert answer.columns.tolist() == CLASSIFIED
    assert answer["error"].tolist() == [
        part for _, error in VALUES for part in ("" if error is None else f"sentence1 {error}", "")
    ]
    failed = answer["error"] != ""
    assert (answer.loc[failed, "prediction"] == -1).all() and (answer.loc[failed, "label"] == "").all()
    assert answer.loc[failed, "score"].isna().all()
    assert (answer.loc[failed, ["tokens", "unknown_tokens"]] == 0).all(axis=None)
    assert answer.loc[~failed, "prediction"].isin([0, 1]).all() and answer.loc[~failed, "score"].between(0.5, 1).all()
    assert (answer.loc[~failed, "tokens"] >= 2).all()
    assert np.ptp(answer["score"][1::2]) < 1e-5, "the good rows all say the same"


def test_error_of_a_pair_names_the_invalid_sentence(package: Package) -> None:
    rows = frame([GOOD, GOOD, None, ""], sentence2=["who", None, "who", 3])
    answer = Scorer(package("stsb")).predict(rows)
    assert answer["error"].tolist() == ["", "sentence2 is missing", "sentence1 is missing", "sentence1 is empty"]
    assert answer["prediction"].isna().tolist() == [False, True, True, True]


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_a_package_of_0_1_0_is_scored(package: Package, task: str, tmp_path: Path) -> None:
    """Such a package does not name its head."""
    old = Path(shutil.copytree(package(task), tmp_path / "old"))
    settings = json.loads((old / "scorer.json").read_text())
    del settings["head"]
    (old / "scorer.json").write_text(json.dumps(settings))
    rows = frame([GOOD, None], sentence2=["who", "who"])
    pd.testing.assert_frame_equal(Scorer(old).predict(rows), Scorer(package(task)).predict(rows))


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_text_columns_of_any_dtype_are_scored(package: Package, dtype: Any) -> None:
    scorer = Scorer(package("cola"))
    answer = scorer.predict(pd.DataFrame({"sentence1": pd.Series([GOOD, None, "who"], dtype=dtype)}))
    assert answer["error"].tolist() == ["", "sentence1 is missing", ""]
    np.testing.assert_allclose(answer["score"][[0, 2]], scorer.predict(frame([GOOD, "who"]))["score"], atol=1e-6)


@pytest.mark.parametrize("task", ["cola", "stsb"])
@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_single_row_tables_are_scored(package: Package, task: str, rows: int) -> None:
    scorer = Scorer(package(task))
    many = scorer.predict(frame([GOOD, "who"], sentence2=["who", GOOD]))
    answer = scorer.predict(frame([GOOD][:rows], sentence2=["who"][:rows]))
    assert answer.columns.tolist() == many.columns.tolist()
    assert len(answer) == rows
    assert answer["prediction"].dtype == many["prediction"].dtype
    pd.testing.assert_frame_equal(answer, many.head(rows), check_dtype=rows > 0, atol=1e-5)
    only_faults = scorer.predict(frame([None] * 3, sentence2=[None] * 3))
    assert only_faults["error"].tolist() == ["sentence1 is missing"] * 3


def test_rows_of_different_length_keep_their_order(package: Package) -> None:
    scorer = Scorer(package("cola"))
    texts = ["it is " * count for count in (9, 1, 30, 4, 2, 7)] + ["It is!", "\u00fcn\u00efcode \u65e5\u672c", "\t.\n"]
    whole = scorer.predict(frame(texts))
    for number, text in enumerate(texts):
        alone = scorer.predict(frame([text]))
        assert alone["label"][0] == whole["label"][number]
        assert alone["score"][0] == pytest.approx(whole["score"][number], abs=1e-5)
    assert whole["score"].nunique() > 4
    assert (whole["label"] == np.array(["unacceptable", "acceptable"])[whole["prediction"]]).all()


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_predictions_do_not_depend_on_the_batch_size(package: Package, task: str) -> None:
    scorer = Scorer(package(task))
    texts = [("the dog " * (number % 13) + "it").strip() for number in range(400)]
    rows = frame(texts, sentence2=texts[::-1])
    expected = scorer.predict(rows)
    for batch_tokens in (1, 40, 8192):
        answer = scorer.predict(rows, {"batch_tokens": batch_tokens})
        pd.testing.assert_frame_equal(answer, expected, atol=1e-5)
    assert expected["prediction" if task == "stsb" else "score"].nunique() > 6


def test_batches_do_not_exceed_their_token_limit(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    padded = pyfunc.pad
    monkeypatch.setattr(pyfunc, "pad", lambda *a: sizes.append(padded(*a)["token_ids"].size) or padded(*a))
    scorer = Scorer(package("cola"), threads=1)
    rows = frame([("dog " * (number % 14) + "it") for number in range(500)])
    scorer.predict(rows, {"batch_tokens": 64})
    assert max(sizes) <= 64 and len(sizes) > 50
    sizes.clear()
    scorer.predict(rows)
    assert 256 < max(sizes) <= runtime.TOKENS_A_THREAD


def test_columns_of_pairs_are_matched_by_name(package: Package) -> None:
    scorer = Scorer(package("stsb"))
    rows = frame(["the dog was it", "who"], sentence2=["not the dog", "she who was"])
    first = scorer.predict(rows)["prediction"]
    shuffled = rows[["sentence2", "sentence1"]].assign(other=1).set_index(pd.Index([7, 7]))
    np.testing.assert_allclose(scorer.predict(shuffled)["prediction"], first, atol=1e-6)
    turned = scorer.predict(rows.rename(columns={"sentence1": "sentence2", "sentence2": "sentence1"}))
    assert abs(turned["prediction"] - first).max() > 1e-3


def test_stop_words_are_removed_before_scoring(package: Package) -> None:
    raw, filtered = Scorer(package("cola")), Scorer(package("stsb", ("the", "was")))
    one, two = raw.predict(frame(["the dog", "dog"]))["score"]
    assert one != pytest.approx(two, abs=1e-4)
    one, two = filtered.predict(frame(["The dog WAS it", "dog it"], sentence2=["the was"] * 2))["prediction"]
    assert one == pytest.approx(two, abs=1e-6)


def test_tokens_are_counted_before_cutting(package: Package) -> None:
    answer = Scorer(package("cola")).predict(frame(["the dog", "the " * 50, "the \u65e5 \u672c", "\u65e5 " * 40, None]))
    assert answer["tokens"].tolist() == [4, 52, 5, 42, 0]  # with [CLS] and [SEP]
    assert answer["unknown_tokens"].tolist() == [0, 0, 2, 40, 0]
    assert "[UNK]" in SPECIALS


def test_params_set_the_limits_and_are_validated(package: Package) -> None:
    scorer = Scorer(package("cola"))
    assert scorer.predict(frame(["12345", "123456"]), {"max_characters": 5})["error"].tolist() == [
        "",
        "sentence1 has 6 characters, more than 5",
    ]
    for params in ({"max_characters": 0}, {"batch_tokens": -1}):
        with pytest.raises(UserError, match=next(iter(params))):
            scorer.predict(frame([GOOD]), params)
    assert PARAMS == {"max_characters": 1_000_000, "batch_tokens": 0}


def test_a_process_loads_a_package_once(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    opened = pyfunc.open_graph
    monkeypatch.setattr(pyfunc, "open_graph", lambda graph, threads: loads.append(graph) or opened(graph, threads))
    folder = package("cola", ("once",))
    with ThreadPoolExecutor(4) as pool:
        scorers = list(pool.map(_load_pyfunc, [str(folder)] * 8))
    assert len(set(map(id, scorers))) == len(loads) == 1
    os.utime(folder / "model.onnx", ns=(1, 1))
    assert _load_pyfunc(str(folder)) is not scorers[0]
    assert len(loads) == 2


def test_session_uses_the_requested_number_of_threads(package: Package) -> None:
    options = Scorer(package("cola"), threads=1).session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert Scorer(package("cola")).threads == len(os.sched_getaffinity(0))


def test_scorers_may_be_shared_by_threads(package: Package) -> None:
    scorer = Scorer(package("cola"))
    tables = [frame([("dog " * (number % 7 + first)).strip() for number in range(60)]) for first in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        for table, answer in zip(tables, pool.map(scorer.predict, tables), strict=True):
            pd.testing.assert_frame_equal(answer, scorer.predict(table), atol=1e-5)


def test_available_memory_limits_the_batch_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = runtime.available_memory()
    assert free > 0
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("30000000\n")
    monkeypatch.setattr(runtime, "CGROUP", tmp_path)
    assert runtime.available_memory() == 70_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert runtime.available_memory() > 70_000_000
    assert runtime.derive_batch_tokens(4, 0) == 1


# Prints a Spark task's number of threads, and how many threads its process has gained by scoring.
TASK = """
import json, os, sys
from pyspark.sql import SparkSession
folder, cpus = sys.argv[1:]
settings = {"spark.task.cpus": cpus, "spark.ui.enabled": "false", "spark.driver.memory": "512m"}
spark = SparkSession.builder.master("local[4]").config(map=settings).getOrCreate()
def score(_):
    import pandas as pd
    from distilspark.package.pyfunc import _load_pyfunc
    before = len(os.listdir("/proc/self/task"))
    scorer = _load_pyfunc(folder)
    scorer.predict(pd.DataFrame({"sentence1": ["the dog was not it"] * 2000}))
    more = len(os.listdir("/proc/self/task")) - before
    yield scorer.threads, more, os.environ["TOKENIZERS_PARALLELISM"], "tensorflow" in sys.modules
print("SEEN", json.dumps(spark.sparkContext.parallelize([0], 1).mapPartitions(score).collect()[0]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "cpus, parallel, most",
    [(1, "false", 0), (2, "true", 3)],  # two cores: one thread more for ONNX Runtime, two for the tokenizer
)
def test_spark_task_uses_no_more_threads_than_its_cores(package: Package, cpus: int, parallel: str, most: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in {"TOKENIZERS_PARALLELISM"}}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-c", TASK, str(package("cola")), str(cpus)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    seen, more, tokenizer, tensorflow = json.loads(ended.stdout.partition("SEEN ")[2])
    assert (seen, tokenizer, tensorflow) == (cpus, parallel, False)
    assert more <= most
