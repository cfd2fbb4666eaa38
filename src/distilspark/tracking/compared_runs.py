"""Runs, sweeps and model versions, read from the tracking store for a comparison."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from omegaconf import OmegaConf

from distilspark.config import TaskConfig, TrustConfig, from_hydra
from distilspark.errors import UserError
from distilspark.evaluation.findings import Variant
from distilspark.evaluation.predictions import Predictions
from distilspark.tracking.results import PREDICTIONS
from distilspark.tracking.store import first_line
from distilspark.tracking.sweeps import FINISHED, SEED, unescape
from distilspark.tracking.trust import check_model

DEV_DIGEST = "data.digest.dev"


@dataclass(frozen=True)
class SweepVariants:
    """A sweep's jobs, grouped by variant, in the order in which they were started."""

    variants: Mapping[str, Sequence[Run]]  # by `sweep.variant`: one finished run a job
    unfinished: int  # jobs that were started and have no finished run


@dataclass(frozen=True)
class ComparisonInput:
    """The input of a comparison: variants with their predictions on the same rows, their histories and settings.

    Attributes:
        topic: the setting that varies, e.g. `class weights`; empty if it has no name.
        histories: each variant's trainings, with the columns `epoch` and `val/*`.
        settings: params in which the runs differ: a row a key, a column a variant.
        run_ids: each variant's.
        missing: a sentence about what could not be compared; empty if nothing is missing.

    """

    task: TaskConfig
    topic: str
    variants: Sequence[Variant]
    histories: Mapping[str, Sequence[pd.DataFrame]]
    settings: pd.DataFrame
    run_ids: Mapping[str, Sequence[str]]
    missing: str


def compared_sweep(sweep_id: str) -> ComparisonInput:
    """Read the variants of a sweep, by its id or its parent's run id; the first is the baseline.

    Raises:
        UserError: there is no such sweep, none of its jobs has finished, or they have no predictions on the same rows.

    """
    sweep = find_sweep(sweep_id)
    topic, labels = name_variants(sweep.variants)
    runs = dict(zip(labels, sweep.variants.values(), strict=True))
    left_out = f"{sweep.unfinished} job{'s' if sweep.unfinished > 1 else ''} of the sweep did not finish: left out."
    missing = left_out if sweep.unfinished else ""
    return _read_input("sweep", runs, topic, missing)


def compared_runs(run_ids: Sequence[str]) -> ComparisonInput:
    """Read runs; those that differ only in their seed form one variant.

    If no runs differ only in their seed, each is its own variant, named as in the UI.

    Raises:
        UserError: a run does not exist, or is given twice; else as `compared_sweep`.

    """
    runs = [_run("runs", run_id) for run_id in run_ids]
    if variants := _variants_of(runs):
        topic, labels = name_variants(variants)
        return _read_input("runs", dict(zip(labels, variants.values(), strict=True)), topic, "")
    names = [run.info.run_name for run in runs]
    labels = [
        name if names.count(name) == 1 else f"{name} ({run.info.run_id[:8]})"
        for name, run in zip(names, runs, strict=True)
    ]
    return _read_input("runs", _one_run_each("runs", labels, runs), "", "")


def compared_models(uris: Sequence[str], trust: TrustConfig) -> ComparisonInput:
    """Check models' packages, and read the runs that logged them, labelled with the models' registered names.

    Raises:
        UserError: a model does not exist or was changed, or two come from the same run; else as `compared_sweep`.

    """
    found = [_model(uri) for uri in uris]
    for uri in uris:
        check_model(uri, trust)
    labels, runs = [label for label, _ in found], [_run("models", run_id) for _, run_id in found]
    return _read_input("models", _one_run_each("models", labels, runs), "", "")


def find_sweep(sweep_id: str) -> SweepVariants:
    """Return the finished children of a sweep's parent run (the newest with the sweep's id), one a job.

    The parent's `sweep.baseline` is first; the others are in the order of their first start, including the attempts
    that this one resumed.

    Raises:
        UserError: there is no such sweep, or none of its jobs has finished.

    """
    parent = _parent(sweep_id)
    same_sweep = _search(f"tags.`sweep.id` = '{parent.data.tags['sweep.id']}'")
    attempts = [run for run in same_sweep if "sweep.variant" in run.data.tags]
    jobs = [run for run in attempts if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent.info.run_id]
    order = [parent.data.tags.get("sweep.baseline"), *(run.data.tags["sweep.variant"] for run in attempts)]
    finished: dict[str, dict[str, Run]] = {variant: {} for variant in order if variant is not None}
    for run in jobs:
        if run.info.status == FINISHED:
            finished[run.data.tags["sweep.variant"]][run.data.tags["sweep.job"]] = run
    variants = {variant: list(found.values()) for variant, found in finished.items() if found}
    if not variants:
        raise UserError(f"sweep={sweep_id}: none of its {len(jobs)} jobs has finished; start it again to continue it")
    unfinished = len({run.data.tags["sweep.job"] for run in jobs}) - sum(map(len, variants.values()))
    return SweepVariants(variants, unfinished)


def _parent(sweep_id: str) -> Run:
    """Return the parent run with this id, or the newest of the sweep with this id."""
    with suppress(MlflowException):
        found = [*_search(f"tags.`sweep.id` = '{sweep_id}' AND tags.`sweep.parent` = 'true'")]
        found += [] if found else [mlflow.get_run(sweep_id)]
        if found[-1].data.tags.get("sweep.parent") == "true":
            return found[-1]
    raise UserError(f"sweep={sweep_id} is no sweep: take a tag sweep.id from the UI, or the id of a sweep's parent run")


def _search(condition: str) -> list[Run]:
    """Return the matching runs of all experiments, by start time."""
    found = mlflow.search_runs(filter_string=condition, search_all_experiments=True, output_format="list")
    return sorted(found, key=lambda run: run.info.start_time)


def name_variants(variants: Collection[str]) -> tuple[str, list[str]]:
    """Name the setting that varies, and each variant; by its value alone if a single key varies.

    >>> name_variants(["training.class_weights=off", "training.class_weights=balanced"])
    ('class weights', ['off', 'balanced'])
    >>> name_variants(["training.epochs=1 training.loss=mse", "training.epochs=1 training.loss=huber"])
    ('', ['epochs 1, loss mse', 'epochs 1, loss huber'])
    """
    pairs = [_settings_of(variant) for variant in variants]
    keys = {tuple(key for key, _ in each) for each in pairs}
    if len(keys) == 1 and len(only := next(iter(keys))) == 1 and len({str(each) for each in pairs}) == len(pairs):
        return only[0], [each[0][1] for each in pairs]
    labels = [", ".join(f"{key} {value}".strip() for key, value in each) or "as configured" for each in pairs]
    return "", labels if len(set(labels)) == len(labels) else list(variants)


def _settings_of(variant: str) -> list[tuple[str, str]]:
    """Return readable keys, and values; none for the variant that changes nothing."""
    settings = [setting.partition("=") for setting in re.split(r"[ ,]+(?=[\w.@/+~-]+=)", variant) if setting]
    return [(key.lstrip("+~").rpartition(".")[2].replace("_", " "), unescape(value)) for key, _, value in settings]


def _model(uri: str) -> tuple[str, str]:
    """Return a model's name, and the run that it came from."""
    client = mlflow.MlflowClient()
    try:
        found = get_model_name_and_version(client, uri)
        if len(found) == 1:
            return uri, str(client.get_logged_model(found[0]).source_run_id)
        version = client.get_model_version(*found)
    except MlflowException as error:
        raise UserError(
            f"models={uri} is no model of this store: {first_line(error)}. "
            "Give models:/NAME/VERSION or models:/NAME@ALIAS; the UI's Models page lists them"
        ) from error
    alias = f" (@{uri.rpartition('@')[2]})" if "@" in uri else ""
    return f"{version.name} {version.version}{alias}", str(version.run_id)


def _run(key: str, run_id: str) -> Run:
    try:
        return mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(
            f"{key}={run_id}: there is no such run in the store: {first_line(error)}. Take a run's id from the UI"
        ) from error


def _variants_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the params in which they differ, except the seed; none if no variant has several seeds."""
    params = pd.DataFrame([run.data.params for run in runs])
    varied = [key for key in map(str, params.columns) if key != SEED and params[key].nunique(dropna=False) > 1]
    variants: dict[str, list[Run]] = {}
    for run in runs:
        variants.setdefault(" ".join(f"{key}={run.data.params.get(key)}" for key in varied), []).append(run)
    seeds = {(variant, _seed(run)) for variant, found in variants.items() for run in found}
    return variants if 1 < len(variants) < len(runs) == len(seeds) else {}


def _one_run_each(key: str, labels: Sequence[str], runs: Sequence[Run]) -> dict[str, list[Run]]:
    ids = [run.info.run_id for run in runs]
    twice = [label for label, run_id in zip(labels, ids, strict=True) if ids.count(run_id) > 1]
    if twice:
        raise UserError(f"{key}: {' and '.join(twice)} are the same run: give each once")
    return {label: [run] for label, run in zip(labels, runs, strict=True)}


def _read_input(key: str, runs: Mapping[str, Sequence[Run]], topic: str, missing: str) -> ComparisonInput:
    """Check that the runs can be compared, and read their predictions, histories and settings."""
    every = [run for found in runs.values() for run in found]
    _check_same(key, every, "task", "Runs of one task can be compared")
    _check_same(key, every, DEV_DIGEST, "Runs on the same dev data can be compared: give all of them the same data")
    task = _task(key, every[0])
    predictions = _check_same_rows(key, {run.info.run_id: _predictions(key, run) for run in every})
    variants = [
        Variant(label, {_seed(run): predictions[run.info.run_id] for run in found}) for label, found in runs.items()
    ]
    return ComparisonInput(
        task,
        topic,
        variants,
        {label: [_history(run, task.metric) for run in found] for label, found in runs.items()},
        _settings({label: found[0] for label, found in runs.items()}),
        {label: [run.info.run_id for run in found] for label, found in runs.items()},
        missing,
    )


def _check_same(key: str, runs: Sequence[Run], tag: str, advice: str) -> None:
    values = {run.info.run_id: run.data.tags.get(tag) for run in runs}
    for run_id, value in values.items():
        if value is None:
            raise UserError(f"{key}: run {run_id} has no tag {tag}: it is no finished training. Leave it out")
    (first, known), *others = values.items()
    for run_id, value in others:
        if value != known:
            raise UserError(f"{key}: {tag} is {known} in run {first} and {value} in run {run_id}. {advice}")


def _seed(run: Run) -> str:
    return str(run.data.params.get(SEED, run.info.run_id))


def _task(key: str, run: Run) -> TaskConfig:
    """Read the task from the run's config."""
    with TemporaryDirectory() as scratch:
        config = yaml.safe_load(_fetch(key, run, "config/config.yaml", scratch).read_text(encoding="utf-8"))
    return from_hydra(TaskConfig, OmegaConf.create(config["task"]))


def _predictions(key: str, run: Run) -> Predictions:
    with TemporaryDirectory() as scratch:
        frame = pd.read_parquet(_fetch(key, run, f"evaluation/{PREDICTIONS}", scratch))
    texts = frame[["sentence1", "sentence2"]].fillna("")
    order = texts.assign(label=frame["label"]).sort_values(["sentence1", "sentence2", "label"], kind="stable").index
    return Predictions.from_frame(frame.loc[order].reset_index(drop=True))


def _fetch(key: str, run: Run, path: str, folder: str) -> Path:
    """Download an artifact of a run into a folder."""
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    try:
        there = {item.path for item in client.list_artifacts(run_id, path.rpartition("/")[0])}
        if path in there:
            return Path(client.download_artifacts(run_id, path, folder))
    except (MlflowException, OSError) as error:
        raise UserError(f"{key}: the artifacts of run {run_id} cannot be read: {first_line(error)}") from error
    raise UserError(
        f"{key}: run {run_id} ({run.info.run_name}, {run.info.status}) has no {path}: it did not finish, or comes from "
        "an earlier version. Leave it out, or train it again"
    )


def _check_same_rows(key: str, predictions: Mapping[str, Predictions]) -> Mapping[str, Predictions]:
    """Return the predictions after checking that they are for the same rows, as the digests indicate."""
    (first, known), *others = predictions.items()
    for run_id, each in others:
        same = len(each.labels) == len(known.labels) and (each.labels == known.labels).all()
        if not same or not each.rows["sentence1"].equals(known.rows["sentence1"]):
            raise UserError(f"{key}: the predictions of runs {first} and {run_id} are of different rows")
    return predictions


def _history(run: Run, metric: str) -> pd.DataFrame:
    """Read `val/loss` and the task's metric on the validation split, by epoch."""
    client = mlflow.MlflowClient()
    columns = {
        name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in ("val/loss", f"val/{metric}")
    }
    return pd.DataFrame(columns).rename_axis("epoch").sort_index().reset_index()


def _settings(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Tabulate the params in which the variants' first runs differ."""
    params = pd.DataFrame({label: run.data.params for label, run in runs.items()}).sort_index()
    differ = params.nunique(axis=1, dropna=False) > 1
    return params[differ].rename_axis("setting").reset_index()
