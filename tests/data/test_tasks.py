"""Each task's YAML file reads GLUE's own TSV and the hub's parquet as the same canonical rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig
from distilspark.data.read import read_rows
from helpers.glue_rows import write_lines

CONF = Path(__file__).parents[2] / "conf" / "task"
TASKS = sorted(file.stem for file in CONF.glob("[!_]*.yaml"))
ONE, TWO = 'The "lamp" hums, softly.', "A lamp makes a sound"


@dataclass(frozen=True)
class Example:
    """One good row of a task in both formats."""

    header: str | None  # GLUE's own, separated by spaces or, where names hold spaces, by |
    fields: str  # GLUE's row, separated by |
    hub: dict[str, object]  # the hub's row
    labels: tuple[str, ...]  # as GLUE's files write them, in the order of the hub's ids
    metric: str


EXAMPLES = {
    "cola": Example(None, f"abc|LABEL||{ONE}", {"sentence": ONE}, ("0", "1"), "mcc"),
    "sst2": Example("sentence|label", f"{ONE} |LABEL", {"sentence": f"{ONE} "}, ("0", "1"), "accuracy"),
    "mrpc": Example(
        "Quality|#1 ID|#2 ID|#1 String|#2 String",
        f"LABEL|17|18|{ONE}|{TWO}",
        {"sentence1": ONE, "sentence2": TWO},
        ("0", "1"),
        "f1",
    ),
    "qqp": Example(
        "id|qid1|qid2|question1|question2|is_duplicate",
        f"7|1|2|{ONE}|{TWO}|LABEL",
        {"question1": ONE, "question2": TWO},
        ("0", "1"),
        "f1",
    ),
    "qnli": Example(
        "index|question|sentence|label",
        f"7|{ONE}|{TWO}|LABEL",
        {"question": ONE, "sentence": TWO},
        ("entailment", "not_entailment"),
        "accuracy",
    ),
    "rte": Example(
        "index|sentence1|sentence2|label",
        f"7|{ONE}|{TWO}|LABEL",
        {"sentence1": ONE, "sentence2": TWO},
        ("entailment", "not_entailment"),
        "accuracy",
    ),
    "wnli": Example(
        "index|sentence1|sentence2|label",
        f"7|{ONE}|{TWO}|LABEL",
        {"sentence1": ONE, "sentence2": TWO},
        ("0", "1"),
        "accuracy",
    ),
    "mnli": Example(
        "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse"
        "|sentence1|sentence2|label1|gold_label",
        f"7|1|1n|fiction|(p)|(h)|(P)|(H)|{ONE}|{TWO}|neutral|LABEL",
        {"premise": ONE, "hypothesis": TWO},
        ("entailment", "neutral", "contradiction"),
        "accuracy",
    ),
    "stsb": Example(
        "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
        f"7|news|f|2012|9|none|none|{ONE}|{TWO}|LABEL",
        {"sentence1": ONE, "sentence2": TWO},
        ("0.000", "1.000", "2.000"),
        "pearson",
    ),
}


def test_there_is_a_config_for_every_glue_task() -> None:
    assert sorted(EXAMPLES) == TASKS
    assert len(TASKS) == 9


@pytest.mark.parametrize("name", TASKS)
def test_both_formats_of_a_task_give_the_same_rows(
    spark: SparkSession, task_of: Callable[[str], TaskConfig], tmp_path: Path, name: str
) -> None:
    task, example = task_of(name), EXAMPLES[name]
    assert (task.name, task.metric) == (name, example.metric)
    assert len(task.labels or example.labels) == len(example.labels)
    header = [example.header] if example.header else []
    lines = [*header, *(example.fields.replace("LABEL", label) for label in example.labels)]
    own = write_lines(tmp_path / "train.tsv", [line.replace("|", "\t") for line in lines])
    ids = range(len(example.labels))
    hub = pd.DataFrame([{**example.hub, "label": place, "idx": place} for place in ids])
    hub.to_parquet(tmp_path / "train.parquet", index=False)
    columns = ["sentence1", "sentence2", "label", "problem"]
    read = [
        read_rows(spark, task, str(file), require_label=True).toPandas().sort_values("label")[columns]
        for file in (own, tmp_path / "train.parquet")
    ]
    pd.testing.assert_frame_equal(read[0].reset_index(drop=True), read[1].reset_index(drop=True))
    assert list(read[0]["label"]) == list(ids)
    assert read[0]["problem"].isna().all()
    assert read[0]["sentence2"].isna().all() == (not task.is_pair)


@pytest.mark.parametrize("name", [task for task in TASKS if task != "stsb"])
def test_label_names_are_read_as_ids(
    spark: SparkSession, task_of: Callable[[str], TaskConfig], tmp_path: Path, name: str
) -> None:
    task = task_of(name)
    rows = pd.DataFrame([{**EXAMPLES[name].hub, "label": label} for label in task.labels])
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    read = read_rows(spark, task, str(tmp_path / "rows.parquet"), require_label=True).toPandas()
    assert list(read["label"]) == list(range(len(task.labels)))


@pytest.mark.parametrize("name", TASKS)
def test_hub_files_have_the_names_of_the_dataset_repository(task_of: Callable[[str], TaskConfig], name: str) -> None:
    hub = task_of(name).hub
    dev = {"mnli": "validation_matched"}.get(name, "validation")
    assert hub == {"train": f"{name}/train-00000-of-00001.parquet", "dev": f"{name}/{dev}-00000-of-00001.parquet"}
