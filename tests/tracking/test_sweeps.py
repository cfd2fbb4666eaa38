"""Parent and child runs of sweeps in a real store, without training."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import Run

from distilspark.errors import UserError
from distilspark.metrics import METRICS
from distilspark.tracking.sweeps import (
    Sweep,
    best_run,
    children,
    find_job,
    finished,
    kept_metric,
    lock_sweep,
    move_finished_jobs,
    sweep_identity,
)

SWEEP = Sweep("class_weights", ("training.class_weights", "training.seed"), "0123456789ab")


def parent_run(status: str | None = None, identity: str = SWEEP.identity) -> Run:
    """Return a sweep's run with this status, by default running."""
    with mlflow.start_run() as run:
        mlflow.set_tags(SWEEP.tags | {"sweep.id": identity})
    mlflow.MlflowClient().update_run(run.info.run_id, status or "RUNNING")
    return mlflow.get_run(run.info.run_id)


def child_run(parent: Run, seed: int, status: str = "FINISHED", **metrics: float) -> Run:
    """Return a job's run."""
    job = find_job(parent.info.run_id, ["task=cola", "training.class_weights=off", f"training.seed={seed}"])
    assert job is not None
    with mlflow.start_run(parent_run_id=parent.info.run_id) as run:
        mlflow.set_tags(job.tags)
        mlflow.log_metrics({name.replace("_", "/", 1): value for name, value in metrics.items()})
    mlflow.MlflowClient().update_run(run.info.run_id, status)
    return mlflow.get_run(run.info.run_id)


def ids(runs: list[Run]) -> list[str]:
    return [run.info.run_id for run in runs]


def test_job_is_named_and_tagged_by_its_varied_settings(store: mlflow.MlflowClient) -> None:
    parent = parent_run()
    job = find_job(parent.info.run_id, ["training.seed=3", "task=cola", "++training.class_weights=off"])
    assert job is not None
    assert job.parent.info.run_id == parent.info.run_id
    assert job.name == "class_weights=off seed 3"
    assert job.tags == {
        "sweep.id": SWEEP.identity,
        "sweep.name": "class_weights",
        "sweep.variant": "training.class_weights=off",
        "sweep.job": "training.class_weights=off training.seed=3",
    }
    assert parent.data.tags["sweep.parent"] == "true"
    assert parent.data.tags["sweep.varied"] == '["training.class_weights", "training.seed"]'
    assert find_job(None, ["training.seed=3"]) is None


@pytest.mark.parametrize("value, name", [("0.25", "sample_fraction=0.25"), ("/a.b/c", "sample_fraction=/a.b/c")])
def test_job_name_keeps_dots_in_values(store: mlflow.MlflowClient, value: str, name: str) -> None:
    parent = parent_run()
    store.set_tag(parent.info.run_id, "sweep.varied", '["data.sample_fraction"]')
    job = find_job(parent.info.run_id, [f"data.sample_fraction={value}"])
    assert job is not None
    assert job.name == name


def test_a_sweep_over_seeds_alone_has_an_empty_variant(store: mlflow.MlflowClient) -> None:
    parent = parent_run()
    store.set_tag(parent.info.run_id, "sweep.varied", '["training.seed"]')
    job = find_job(parent.info.run_id, ["training.seed=3"])
    assert job is not None
    assert (job.name, job.variant) == ("seed 3", ())
    store.log_batch(parent.info.run_id, tags=[mlflow.entities.RunTag(*item) for item in job.tags.items()])
    assert store.get_run(parent.info.run_id).data.tags["sweep.variant"] == ""


def test_sweep_identity_depends_on_the_settings_shared_by_all_jobs() -> None:
    settings = {"training.epochs": 3, "training.seed": 1, "spark.master": "local[2]", "data.path": None}
    same = sweep_identity("loss", ["training.seed", "training.loss"], settings)
    others = {"training.seed": 7, "spark.master": "yarn", "training.loss": "mse"}
    assert sweep_identity("loss", ["training.loss", "training.seed"], settings | others) == same
    changed = [
        sweep_identity("other", ["training.seed", "training.loss"], settings),
        sweep_identity("loss", ["training.seed"], settings),
        sweep_identity("loss", ["training.seed", "training.loss"], settings | {"training.epochs": 4}),
        sweep_identity("loss", ["training.seed", "training.loss"], settings | {"data.path": "/data"}),
    ]
    assert len({same, *changed}) == 5
    assert len(same) == 12


@pytest.mark.parametrize("varied, same", [(["training.averaging"], False), (["training.seed"], True)])
def test_sweep_identity_includes_settings_that_a_varied_switch_uses(varied: list[str], same: bool) -> None:
    """Jobs with `ema` depend on the decay, although the shared settings switch averaging off."""
    settings = {"training.averaging": "off", "training.ema_decay": 0.99}
    decayed = settings | {"training.ema_decay": 0.9}
    assert (sweep_identity("x", varied, settings) == sweep_identity("x", varied, decayed)) is same


@pytest.mark.parametrize("status", ["KILLED", "FAILED", None])
def test_finished_jobs_of_an_interrupted_sweep_are_adopted(store: mlflow.MlflowClient, status: str | None) -> None:
    earlier = parent_run(status)
    done, broken, lost = child_run(earlier, 1), child_run(earlier, 2, "FAILED"), child_run(earlier, 3, "RUNNING")
    now = parent_run()
    assert ids(move_finished_jobs(now, SWEEP.identity, 4, None)) == ids([done])
    assert ids(children(now)) == ids([done])
    assert ids(children(earlier)) == ids([broken, lost])
    assert store.get_run(lost.info.run_id).info.status == "KILLED"
    assert store.get_run(earlier.info.run_id).info.status == (status or "KILLED")
    assert store.get_run(earlier.info.run_id).data.tags["sweep.continued_by"] == now.info.run_id


def test_finished_sweep_keeps_its_children_unless_more_jobs_are_requested(store: mlflow.MlflowClient) -> None:
    earlier = parent_run("FINISHED")
    first, second = child_run(earlier, 1), child_run(earlier, 2)
    assert move_finished_jobs(parent_run("KILLED"), SWEEP.identity, 2, None) == []
    assert ids(children(earlier)) == ids([first, second])
    larger = parent_run()
    assert ids(move_finished_jobs(larger, SWEEP.identity, 3, None)) == ids([first, second])


def test_only_requested_jobs_of_the_same_sweep_are_adopted(store: mlflow.MlflowClient) -> None:
    earlier, another = parent_run("KILLED"), parent_run("KILLED", identity="another")
    wanted, _, _ = child_run(earlier, 1), child_run(earlier, 2), child_run(another, 1)
    taken = move_finished_jobs(parent_run(), SWEEP.identity, 2, {"training.class_weights=off training.seed=1"})
    assert ids(taken) == ids([wanted])


def test_best_job_is_chosen_on_validation_and_not_on_dev(store: mlflow.MlflowClient) -> None:
    parent = parent_run()
    good = child_run(parent, 1, val_kept_mcc=0.5, val_mcc=0.2, dev_mcc=0.1)
    child_run(parent, 2, val_kept_mcc=0.4, val_mcc=0.9, dev_mcc=0.9)
    child_run(parent, 3, "FAILED", val_kept_mcc=0.9)
    runs = finished(children(parent))
    assert len(runs) == 2
    assert best_run(runs, METRICS["mcc"]).info.run_id == good.info.run_id
    assert kept_metric(good, METRICS["mcc"]) == 0.5


def test_best_job_of_an_error_metric_has_the_lowest_value(store: mlflow.MlflowClient) -> None:
    parent = parent_run()
    runs = [child_run(parent, seed, val_kept_mse=mse) for seed, mse in enumerate((0.7, 0.4, 0.9))]
    assert best_run(runs, METRICS["mse"]).info.run_id == runs[1].info.run_id


def test_second_process_of_the_same_sweep_is_refused(store: mlflow.MlflowClient) -> None:
    with lock_sweep(SWEEP):
        with pytest.raises(UserError, match="is already running"), lock_sweep(SWEEP):
            pytest.fail("there are two")
        with lock_sweep(Sweep("other", (), "other")):
            pass
    with lock_sweep(SWEEP):
        pass
