"""Relative paths resolve against the caller's folder, also when `mlflow run` starts in the project's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from distilspark.cli import hydra_arguments, main
from distilspark.config import CompareConfig, EvaluateConfig, PredictConfig, TrainConfig, from_hydra
from distilspark.errors import UserError
from distilspark.paths import CALLER, CONF, from_caller, set_caller

Composer = Callable[..., TrainConfig]
WHOLE = ["/data/../x", "s3a://bucket/x", "models:/name@champion", "file:/x", "~/x", "", "hdfs://host/x"]


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CALLER, "/the caller")


@pytest.mark.parametrize("path", [*WHOLE, "x.txt", "../x", "."])
def test_paths_are_unchanged_without_mlflow_run(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.delenv(CALLER, raising=False)
    assert from_caller(path) == path


@pytest.mark.parametrize(
    "path, expected",
    [
        *((path, path) for path in WHOLE),
        ("x.txt", "/the caller/x.txt"),
        ("../*/x", "/*/x"),
        (".", "/the caller"),
        ("~nobody at all/x", "/the caller/~nobody at all/x"),
        ("a:b", "/the caller/a:b"),
    ],
)
def test_relative_paths_resolve_against_the_folder_of_mlflow_run(caller: None, path: str, expected: str) -> None:
    assert from_caller(path) == expected


@pytest.mark.parametrize("process", ["999999999", "x", "", "-1"])
def test_relative_path_is_refused_if_the_callers_folder_is_unknown(
    monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    monkeypatch.setenv(CALLER, "/stale")
    set_caller(process)
    assert [from_caller(path) for path in WHOLE] == WHOLE
    with pytest.raises(UserError, match=r"x\.txt .*mlflow run"):
        from_caller("x.txt")


def test_callers_folder_is_read_from_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CALLER, "")
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        try:
            set_caller(str(process.pid))
        finally:
            process.communicate(b"\n")
    assert os.environ[CALLER] == str(tmp_path)


def test_all_paths_in_a_config_resolve_against_the_callers_folder(caller: None, compose_config: Composer) -> None:
    train = compose_config("data.path=a", "model.path=b", "training.checkpoints=c", "model=tiny")
    assert (train.data.path, train.model.path, train.training.checkpoints) == (
        "/the caller/a",
        "/the caller/b",
        "/the caller/c",
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = ["input=a", "output=b", "model_uri=c"]
        predict = from_hydra(PredictConfig, compose("predict", given))
        evaluate = from_hydra(EvaluateConfig, compose("evaluate", ["data.path=a", "model_uri=runs:/1/model"]))
        compare = from_hydra(CompareConfig, compose("compare", ["models=[models:/a/1,b]", "output=c"]))
    assert (predict.input, predict.output, predict.model_uri) == ("/the caller/a", "/the caller/b", "/the caller/c")
    assert (evaluate.data.path, evaluate.model_uri) == ("/the caller/a", "runs:/1/model")
    assert (compare.models, compare.output) == (["models:/a/1", "/the caller/b"], "/the caller/c")


def test_hydras_output_folders_resolve_against_the_callers_folder(caller: None) -> None:
    given = ["hydra.run.dir=out", "--hydra.sweep.dir", "a b", "hydra.run.dir=${x}/y", "hydra.run.dir='q'", "input=x"]
    assert hydra_arguments(given) == [
        "hydra.run.dir=/the caller/out",
        "hydra.sweep.dir=/the caller/a b",
        "hydra.run.dir=${x}/y",
        "hydra.run.dir='q'",
        "input=x",
    ]


def test_started_by_argument_of_mlproject_is_not_an_override(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CALLER, "/stale")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--task", "stsb", "--started-by", str(os.getpid()), "--model", "tiny", "--cfg", "job"]) == 0
    shown = capfd.readouterr().out
    assert "name: stsb" in shown and "started" not in shown
    assert os.environ[CALLER] == str(tmp_path)
