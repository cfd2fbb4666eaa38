"""Scoring in the tests' Spark session, with an untrained package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir
from pyspark.sql import SparkSession

from distilspark.config import PredictConfig, from_hydra
from distilspark.package.load import TaskModel, load_task_model
from distilspark.paths import CONF
from distilspark.workflows.predict import score_existing


@cache
def compose_predict(*overrides: str) -> PredictConfig:
    """Compose `conf/predict.yaml` with overrides, as the command line does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_hydra(PredictConfig, compose("predict", list(overrides)))


def count_jobs(spark: SparkSession) -> int:
    """Return the number of jobs that Spark has run so far."""
    return int(spark._jsc.sc().dagScheduler().numTotalJobs())


@dataclass(frozen=True)
class Scoring:
    """Score files below a folder in the tests' session."""

    spark: SparkSession
    folder: Path
    save: Callable[[str], Path]

    def __call__(self, source: Path | str, *overrides: str, task: str = "cola", model: Path | None = None) -> Any:
        """Score a file and return the output as pandas."""
        config = self.config(source, *overrides, task=task, model=model)
        self.run(config)
        assert not self.staging.exists()
        return self.read(config.predict.format)

    def run(self, config: PredictConfig) -> None:
        """Run the scoring job."""
        score_existing(self.spark, config, self.fetch(config))

    def config(
        self, source: Path | str, *overrides: str, task: str = "cola", model: Path | None = None
    ) -> PredictConfig:
        """Return the command's config; without `model`, the model is the task's saved package."""
        given = [f"task={task}", f"input='{source}'", f"output='{self.output}'"]
        return compose_predict(*given, f"model_uri='{model or self.save(task)}'", *overrides)

    def fetch(self, config: PredictConfig) -> TaskModel:
        """Load the config's model into a folder of this scoring."""
        scratch = self.folder / "fetched"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return load_task_model(config.model_uri, config.task, scratch, config.registry)

    @property
    def output(self) -> Path:
        """The output folder."""
        return self.folder / "scored"

    @property
    def staging(self) -> Path:
        """The staging folder."""
        return self.folder / ".scored.staging"

    @property
    def manifest(self) -> Any:
        """The output's manifest."""
        return json.loads((self.output / "_manifest.json").read_text())

    def read(self, kind: str = "parquet") -> pd.DataFrame:
        """Read the output with Spark."""
        options: dict[str, Any] = {"header": True, "escape": '"', "multiLine": True} if kind == "csv" else {}
        return self.spark.read.format(kind).options(**options).load(str(self.output)).toPandas()

    def text(self, lines: list[str], name: str = "rows.txt") -> Path:
        """Write a file of lines below the folder."""
        return self.bytes("".join(f"{line}\n" for line in lines).encode(), name)

    def bytes(self, content: bytes, name: str) -> Path:
        """Write a file below the folder."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file
