"""Runs, sweeps and models are read from a real store for a comparison, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mlflow
import numpy as np
import pytest

from distilspark.config import TaskConfig, TrainConfig, TrustConfig
from distilspark.errors import UserError
from distilspark.evaluation.predictions import Predictions
from distilspark.tracking.compared_runs import (
    compared_models,
    compared_runs,
    compared_sweep,
    find_sweep,
    name_variants,
)
from helpers.made_runs import MadeStore, made_classifier, made_regressor
from helpers.stores import make_store
from helpers.texts import numbers_in

TRUST = TrustConfig(trusted_keys=[], require_digest=False)

Composer = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeStore]:
    """A store for this module, set as MLflow's tracking store."""
    made, before = MadeStore(tmp_path_factory.mktemp("compared")), mlflow.get_tracking_uri()
    make_store(made.folder / "mlflow.db", made.folder)
    mlflow.set_tracking_uri(made.uri)
    yield made
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def cola(compose_config: Composer) -> TaskConfig:
    return compose_config("task=cola", "model=tiny").task


@pytest.fixture(scope="module")
def stsb(compose_config: Composer) -> TaskConfig:
    return compose_config("task=stsb", "model=tiny").task


@pytest.fixture(scope="module")
def good(store: MadeStore, cola: TaskConfig) -> str:
    """A training that can be compared."""
    return store.training(
        cola, made_classifier(30, 0.8, 1), name="good", curve=(0.1, 0.3), params={"loss": "a", "same": 1}
    )


def test_variants_of_a_sweep_are_in_order_with_their_seeds(store: MadeStore, cola: TaskConfig) -> None:
    said = {value: {seed: made_classifier(30, 0.7, seed) for seed in (2, 1)} for value in ("off", "balanced")}
    said["balanced"][1] = None  # type: ignore[assignment]
    parent = store.sweep(cola, "training.class_weights", said, "a-sweep")
    for sweep_id in ("a-sweep", parent):
        compared = compared_sweep(sweep_id)
        assert compared.topic == "class weights"
        assert [(each.label, list(each.seeds)) for each in compared.variants] == [
            ("off", ["2", "1"]),
            ("balanced", ["2"]),
        ]
        assert numbers_in(compared.missing) == [1]
        assert compared.task == cola
    settings = compared.settings.set_index("setting")
    assert settings.loc["training.class_weights"].to_dict() == {"off": "off", "balanced": "balanced"}
    assert [len(each) for each in compared.histories.values()] == [2, 1]
    # the baseline may have started second
    store.client.set_tag(parent, "sweep.baseline", "training.class_weights=balanced")
    assert [each.label for each in compared_sweep(parent).variants] == ["balanced", "off"]


def test_resumed_sweep_keeps_the_order_of_its_first_attempt(store: MadeStore, cola: TaskConfig) -> None:
    failed: dict[str, dict[int, Predictions | None]] = {"mse": {1: None}, "huber": {1: made_classifier(30, 0.7, 1)}}
    before = store.sweep(cola, "training.loss", failed, "again")
    parent = store.sweep(cola, "training.loss", {"huber": {}, "mse": {1: made_classifier(30, 0.7, 1)}}, "again")
    (moved,) = find_sweep(before).variants["training.loss=huber"]
    store.client.set_tag(moved.info.run_id, "mlflow.parentRunId", parent)
    for sweep_id in ("again", parent):
        sweep = find_sweep(sweep_id)
        assert list(sweep.variants) == ["training.loss=mse", "training.loss=huber"]
        assert sweep.unfinished == 0
    with pytest.raises(UserError, match=r"none .*\b1 jobs"):
        find_sweep(before)


def test_repeated_job_counts_once_with_its_last_run(store: MadeStore, cola: TaskConfig) -> None:
    parent = store.sweep(cola, "training.loss", {"mse": {1: made_classifier(30, 0.7, 1)}}, "twice")
    again = made_classifier(30, 0.9, 1)
    tags = {"sweep.id": "twice", "sweep.variant": "training.loss=mse", "mlflow.parentRunId": parent}
    store.training(cola, again, tags=tags | {"sweep.job": "training.loss=mse training.seed=1"})
    (only,) = compared_sweep(parent).variants
    assert (only.predictions.outputs == again.outputs[np.argsort(_texts(30))]).all()


def _texts(n: int) -> list[str]:
    return made_classifier(n, 0.5, 1).rows["sentence1"].tolist()


def test_runs_are_read_with_histories_and_differing_settings(store: MadeStore, cola: TaskConfig, good: str) -> None:
    other = store.training(cola, made_classifier(30, 0.9, 2), name="other", seed=2, params={"loss": "b", "same": 1})
    compared = compared_runs([good, other])
    assert [(each.label, list(each.seeds)) for each in compared.variants] == [("good", ["1"]), ("other", ["2"])]
    assert compared.histories["good"][0].to_dict("list") == {
        "epoch": [1, 2],
        "val/loss": [0.9, 0.7],
        "val/mcc": [0.1, 0.3],
    }
    assert compared.settings.to_dict("list") == {
        "setting": ["loss", "training.seed"],
        "good": ["a", "1"],
        "other": ["b", "2"],
    }
    assert compared.run_ids == {"good": [good], "other": [other]}
    assert compared.missing == "" and compared.topic == ""


def test_labels_of_runs_with_equal_names_have_their_ids(store: MadeStore, cola: TaskConfig, good: str) -> None:
    twin = store.training(cola, made_classifier(30, 0.8, 1), name="good")
    labels = [each.label for each in compared_runs([good, twin]).variants]
    assert labels == [f"good ({good[:8]})", f"good ({twin[:8]})"]


def test_runs_that_differ_only_in_their_seed_are_one_variant(store: MadeStore, cola: TaskConfig) -> None:
    def trained(workers: int, seed: int) -> str:
        params = {"training.workers": workers, "same": "a"}
        return store.training(cola, made_classifier(30, 0.8, seed), name="a run", seed=seed, params=params)

    runs = [trained(workers, seed) for seed in (1, 2) for workers in (1, 2)]
    compared = compared_runs(runs)
    assert compared.topic == "workers"
    assert [(each.label, list(each.seeds)) for each in compared.variants] == [("1", ["1", "2"]), ("2", ["1", "2"])]
    assert compared.run_ids == {"1": runs[::2], "2": runs[1::2]}
    assert len(compared_runs([*runs, trained(2, 2)]).variants) == 5, "a seed twice: they differ in something else"
    assert len(compared_runs(runs[::2]).variants) == 2, "one variant has nothing to be compared with"


def test_predictions_of_all_variants_have_the_same_row_order(store: MadeStore, cola: TaskConfig) -> None:
    straight = made_classifier(30, 0.8, 1)
    order = np.random.default_rng(0).permutation(30)
    shuffled = Predictions(straight.rows.iloc[order], straight.labels[order], straight.outputs[order])
    ids = [store.training(cola, each, name=name) for name, each in {"a": straight, "b": shuffled}.items()]
    first, second = compared_runs(ids).variants
    assert (first.predictions.outputs == second.predictions.outputs).all()
    assert first.predictions.rows.equals(second.predictions.rows)


def test_registered_models_are_compared_by_their_runs(store: MadeStore, cola: TaskConfig, good: str) -> None:
    other = store.training(cola, made_classifier(30, 0.9, 2), name="other")
    store.client.create_registered_model("distilspark-cola")
    for run_id in (good, other):
        store.client.create_model_version("distilspark-cola", f"runs:/{run_id}/model", run_id)
    store.client.set_registered_model_alias("distilspark-cola", "champion", "2")
    compared = compared_models(["models:/distilspark-cola/1", "models:/distilspark-cola@champion"], TRUST)
    assert compared.run_ids == {"distilspark-cola 1": [good], "distilspark-cola 2 (@champion)": [other]}
    with pytest.raises(UserError, match="same run"):
        compared_models(["models:/distilspark-cola/2", "models:/distilspark-cola@champion"], TRUST)
    for uri in ("models:/distilspark-cola/9", "models:/distilspark-cola@nobody", "models:/nothing/1", "good"):
        with pytest.raises(UserError, match=f"models={uri} ") as refused:
            compared_models(["models:/distilspark-cola/1", uri], TRUST)
        assert "\n" not in str(refused.value)


def test_runs_that_cannot_be_compared_are_refused(
    store: MadeStore, cola: TaskConfig, stsb: TaskConfig, good: str
) -> None:
    predictions = made_classifier(30, 0.8, 1)
    bad = {
        r"task .*cola .*\w{32} .*stsb .*\w{32}": store.training(stsb, made_regressor(30, 0.5, 1)),
        r"data.digest.dev .*a digest .*\w{32} .*another .*\w{32}": store.training(cola, predictions, digest="another"),
        r"\(a training, FAILED\) .*evaluation/predictions.parquet": store.training(cola, None, status="FAILED"),
        r"of different rows": store.training(cola, made_classifier(29, 0.8, 1)),
        r"\btag task\b": store.run(cola, "a comparison", {}, {}),
        r"runs=nothing: ": "nothing",
        rf"good \({good[:8]}\) and good \({good[:8]}\) .*same": good,
    }
    for message, run_id in bad.items():
        with pytest.raises(UserError, match=message) as refused:
            compared_runs([good, run_id])
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith("runs")


def test_unknown_or_failed_sweep_is_refused(store: MadeStore, cola: TaskConfig, good: str) -> None:
    for sweep_id in ("nothing", good, "it's"):
        with pytest.raises(UserError, match=f"sweep={sweep_id} "):
            find_sweep(sweep_id)
    store.sweep(cola, "training.epochs", {"1": {1: None}}, "failed")
    with pytest.raises(UserError, match=r"^sweep=failed: none .*\b1 jobs"):
        find_sweep("failed")


@pytest.mark.parametrize(
    "variants, topic, labels",
    [
        (["model=minilm", "model=tiny"], "model", ["minilm", "tiny"]),
        (["+spark.settings.a=[1,2]", "+spark.settings.a=[3,b]"], "a", ["[1,2]", "[3,b]"]),
        (["a.x=1", "b.x=1"], "", ["a.x=1", "b.x=1"]),
        (["", "training.epochs=2"], "", ["as configured", "epochs 2"]),
        ([""], "", ["as configured"]),
        (["a.b=1 c.d_e=2", "a.b=1 c.d_e=[3, x]"], "", ["b 1, d e 2", "b 1, d e [3, x]"]),
    ],
)
def test_variants_are_named_by_what_differs(variants: list[str], topic: str, labels: list[str]) -> None:
    assert name_variants(variants) == (topic, labels)
