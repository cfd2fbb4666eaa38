"""Scoring in the tests' own session, with a package that no training made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir
from pyspark.sql import SparkSession

from distilspark.config import PredictConfig, from_hydra
from distilspark.package.load import TaskModel, load_task_model
from distilspark.paths import CONF
from distilspark.workflows.predict import score_in


def compose_predict(*overrides: str) -> PredictConfig:
    """`conf/predict.yaml` with overrides, as the command line has it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_hydra(PredictConfig, compose("predict", list(overrides)))


def count_jobs(spark: SparkSession) -> int:
    """Count the jobs that Spark has run so far."""
    return int(spark._jsc.sc().dagScheduler().numTotalJobs())


@dataclass(frozen=True)
class Scoring:
    """Scores files below a folder in the tests' session."""

    spark: SparkSession
    folder: Path
    save: Callable[[str], Path]

    def __call__(self, source: Path | str, *overrides: str, task: str = "cola", model: Path | None = None) -> Any:
        """The output as Spark reads it, in pandas."""
        config = self.config(source, *overrides, task=task, model=model)
        self.run(config)
        assert not self.staging.exists()
        return self.read(config.predict.format)

    def run(self, config: PredictConfig) -> None:
        """The job."""
        score_in(self.spark, config, self.fetch(config))

    def config(
        self, source: Path | str, *overrides: str, task: str = "cola", model: Path | None = None
    ) -> PredictConfig:
        """What the command would be given; the model is the task's own, saved in a folder, unless there is another."""
        given = [f"task={task}", f"input='{source}'", f"output='{self.output}'"]
        return compose_predict(*given, f"model_uri='{model or self.save(task)}'", *overrides)

    def fetch(self, config: PredictConfig) -> TaskModel:
        """The config's model, in a folder of this scoring's."""
        scratch = self.folder / "fetched"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return load_task_model(config.model_uri, config.task, scratch, config.registry)

    @property
    def output(self) -> Path:
        """Where the rows go."""
        return self.folder / "scored"

    @property
    def staging(self) -> Path:
        """Where a scoring keeps what it has done."""
        return self.folder / ".scored.staging"

    @property
    def manifest(self) -> Any:
        """The output's."""
        return json.loads((self.output / "_manifest.json").read_text())

    def read(self, kind: str = "parquet") -> pd.DataFrame:
        """The output as Spark reads it."""
        options: dict[str, Any] = {"header": True, "escape": '"', "multiLine": True} if kind == "csv" else {}
        return self.spark.read.format(kind).options(**options).load(str(self.output)).toPandas()

    def text(self, lines: list[str], name: str = "rows.txt") -> Path:
        """A file of lines below the folder."""
        return self.bytes("".join(f"{line}\n" for line in lines).encode(), name)

    def bytes(self, content: bytes, name: str) -> Path:
        """A file below the folder."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file
