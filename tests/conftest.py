"""Fixtures for all tests: one Spark session, the real data, the real configs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from pyspark.sql import SparkSession

from distilspark.config import Precision, SparkConfig, TrainConfig, from_hydra
from distilspark.spark import session

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for crash points and for the browser tests' store and screenshots."""
    parser.addoption("--all-crash-points", action="store_true", help="fail a scoring at every operation, not at some")
    parser.addoption("--screenshots", type=Path, metavar="FOLDER", help="write the pictures of MLflow's UI there")
    parser.addoption(
        "--store", type=Path, metavar="FOLDER", help="look at the ablation of class weights in its mlflow.db"
    )


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local Spark session for all tests of a process."""
    config = SparkConfig(
        master="local[2]",
        driver_memory="2g",
        executor_memory="1g",
        executor_cores=1,
        shuffle_partitions=2,
        dynamic_allocation=False,
        worker_timeout=1800,
        settings={
            "spark.log.level": "ERROR",
            # a few rows a query: compiling it takes longer than interpreting it; the e2e tests compile
            "spark.sql.codegen.wholeStage": False,
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        },
    )
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("SPARK_CONF_DIR", str(ROOT / "tests/spark"))
        running = session(config, "distilspark-tests")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def glue() -> Path:
    """The folder of the real GLUE data, beside the project."""
    folder = ROOT.parent / "shared" / "glue"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/glue) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of `model=tiny`: a random two-layer DistilBERT. Read only."""
    from distilspark.model.tiny import write_tiny

    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., TrainConfig]:
    """Compose `conf/train.yaml` with overrides, as the command line does; each config once, as many tests share it."""

    @lru_cache(None)
    def compose_(*overrides: str) -> TrainConfig:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return from_hydra(TrainConfig, compose("train", [*overrides]))

    return compose_


@pytest.fixture(scope="session")
def package(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, compose_config: Callable[..., TrainConfig]
) -> Callable[..., Path]:
    """`package(task, stop_words, precision)` returns the folder that `distilspark.package.pyfunc` loads; read only."""
    from distilspark.model.network import export_arrays
    from distilspark.package.build import write_package
    from helpers.packages import make_network

    @lru_cache(None)
    def write(task: str, stop_words: Sequence[str] = (), precision: Precision = "float32") -> Path:
        config = compose_config(f"task={task}", "model=tiny", "model.max_length=16")
        folder = tmp_path_factory.mktemp(task)
        network = make_network(tiny_folder, config.task.head, len(config.task.labels) or 1, "cls")
        arrays = export_arrays(network)
        write_package(folder, arrays, tiny_folder, config.task, config.model, stop_words, precision)
        return folder

    return write


@pytest.fixture(scope="session")
def saved(package: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`saved(task)` returns the task's package, saved as an MLflow model in a folder."""
    import mlflow

    from distilspark.package.build import signature
    from distilspark.package.code import LOADER, write_code
    from helpers.scorings import compose_predict

    @lru_cache(None)
    def save(task: str) -> Path:
        folder = tmp_path_factory.mktemp("saved") / task
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(package(task)),
            code_paths=[str(write_code(folder.with_name("code")))],
            signature=signature(compose_predict(f"task={task}", "input=x", "output=y").task),
            pip_requirements=[],
        )
        return folder

    return save


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISTILSPARK_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a store's database that tests share, each with its own experiment."""
    return tmp_path_factory.mktemp("shared") / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, shared_database: Path) -> Iterator[Any]:
    """Set MLflow to the shared store, with a new experiment."""
    import mlflow

    from helpers.stores import tracking_in

    with tracking_in(tmp_path, shared_database):
        mlflow.set_experiment(tmp_path.name)
        yield mlflow.MlflowClient()
