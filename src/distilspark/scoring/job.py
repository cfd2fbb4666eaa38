"""Scoring some files into a folder that appears whole: read once, score in chunks, check, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.console import working
from distilspark.data.read import Inputs
from distilspark.drift.indices import Drift, measure_drift
from distilspark.drift.profile import profile_of
from distilspark.drift.summary import Summary
from distilspark.package.load import TaskModel
from distilspark.scoring.chunks import ingest, read_scored, score_chunks
from distilspark.scoring.labelled import labelled_metrics
from distilspark.scoring.manifest import check_errors, make_manifest
from distilspark.scoring.model_udf import Udf
from distilspark.scoring.output import write_output
from distilspark.scoring.staging import MANIFEST, Places, fingerprint, open_staging, publish, write_json

PARQUET = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}  # INT96, the default, ends in 2262 for others


@dataclass(frozen=True)
class Scored:
    """A scoring's figures, once its output is in its place."""

    manifest: dict[str, Any]
    summary: Summary
    profile: dict[str, Any]  # as `profile_of`
    drift: Drift
    metrics: dict[str, float]  # on the rows that have a label


def score_files(
    spark: SparkSession,
    config: PredictConfig,
    model: TaskModel,
    udf: Udf,
    inputs: Inputs,
    places: Places,
    started: float,
) -> Scored:
    """Score the files into `places.output`; `started` is when the work on them was, by `time.perf_counter`."""
    for key, value in PARQUET.items():
        spark.conf.set(key, value)
    with working("reading the input"):
        wanted = fingerprint(config, inputs, model)
        open_staging(spark, places, wanted, config.predict.overwrite)
        plan = ingest(spark, config, inputs, places)
    summary = score_chunks(spark, config, model, udf, places, plan)
    with working("writing the output"):
        check_errors(summary, config, places)
        rows = read_scored(spark, config, places, plan)
        profile, metrics = profile_of(summary, config.task), labelled_metrics(summary, rows, config.task)
        drift = measure_drift(model.profile, profile)
        write_output(rows, len(plan.chunks), config, model.found.version, places.of("output"))
        manifest = make_manifest(config, model, wanted, summary, drift, time.perf_counter() - started)
        write_json(spark, places.of("output", MANIFEST), manifest)
        publish(spark, places)
    return Scored(manifest, summary, profile, drift, metrics)
