"""Scoring files with a registered model: read once, score in chunks, check, publish."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.console import say, working
from distilspark.data.filesystem import to_spark
from distilspark.figures import count_rows
from distilspark.scoring.chunks import ingest, score_chunks
from distilspark.scoring.inputs import find_inputs
from distilspark.scoring.manifest import check_errors, check_nothing_is_lost, count_errors, make_manifest
from distilspark.scoring.output import write_output
from distilspark.scoring.packaged import TaskModel, load_task_model
from distilspark.scoring.staging import (
    MANIFEST,
    check_output,
    fingerprint,
    open_staging,
    places_of,
    publish,
    write_json,
)
from distilspark.spark import open_session, with_retries


def score(config: PredictConfig) -> None:
    """Score `input` into `output`, inside the active run."""
    with tempfile.TemporaryDirectory(prefix="distilspark-model-") as scratch:
        with working("fetching the model"):
            model = load_task_model(config.model_uri, config.task, Path(scratch))
        with open_session(with_retries(config.spark), f"distilspark-predict-{config.task.name}") as spark:
            score_in(spark, config, model)


def score_in(spark: SparkSession, config: PredictConfig, model: TaskModel) -> dict[str, Any]:
    """The whole job in a running session; what its manifest says."""
    started = time.perf_counter()
    assert config.input and config.output
    places = places_of(config.output)
    with working("reading the input"):
        inputs = find_inputs(spark, config.task, config.input)
        check_output(spark, places, inputs, config.predict.overwrite)
        wanted = fingerprint(config, inputs, model)
        open_staging(spark, places, wanted, config.predict.overwrite)
        chunks = ingest(spark, config, inputs, places)
    counts = score_chunks(spark, config, model, places, chunks)
    scored = spark.read.parquet(*to_spark([places.of("scored", chunk.name) for chunk in chunks]))
    with working("checking and writing the output"):
        check_nothing_is_lost(scored, chunks)
        errors = count_errors(scored)
        check_errors(counts, errors, config, places)
        write_output(scored, counts.rows, config, model.found.version, places.of("output"))
        manifest = make_manifest(config, model, wanted, counts, errors, time.perf_counter() - started)
        write_json(spark, places.of("output", MANIFEST), manifest)
        publish(spark, places)
    say(f"{count_rows(counts.rows)} in {places.output}: {counts.scored} scored, {counts.failed} with an error")
    return manifest
