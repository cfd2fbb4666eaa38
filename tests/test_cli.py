"""Command-line arguments, and how commands end: exit codes and one line of error without a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from distilspark import cli
from distilspark.cli import COMMANDS, SERVICES, hydra_arguments, main
from distilspark.errors import UserError, WorkError
from distilspark.paths import CONF, ROOT
from distilspark.workflows.runner import CONFIGS

# Runs `main` on each list of arguments and reports exit codes and errors: Python, TensorFlow and Spark start only once.
DRIVER = """
import json, os, sys, tempfile
from distilspark.cli import main
endings, answer = [], sys.argv[2]
for arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as stderr:
        kept = os.dup(2)
        os.dup2(stderr.fileno(), 2)
        try:
            code = main(arguments)
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
        stderr.seek(0)
        endings.append([code, stderr.read().decode()])
json.dump(endings, open(answer, "w"))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with a cache and a store for this module, and the hub offline."""
    folder = tmp_path_factory.mktemp("command-line")
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "DISTILSPARK_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "HF_HUB_OFFLINE": "1",
    }


def run(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distilspark", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], []),
        (["--task", "stsb"], ["task=stsb"]),
        (["--task=stsb"], ["task=stsb"]),
        (["--task", "cola", "--training.epochs", "1"], ["task=cola", "training.epochs=1"]),
        (["task=cola", "+a.b=1", "~c", "++d=2"], ["task=cola", "+a.b=1", "~c", "++d=2"]),
        (["--data.path", ""], []),
        (["--data.path="], []),
        (["--data.path", "", "--task", "stsb"], ["task=stsb"]),
        (["--training.seed", "1,2", "--multirun"], ["training.seed=1,2", "--multirun"]),
        (["-m", "training.seed=1,2"], ["training.seed=1,2", "-m"]),
        (["--data.path", "x=1 & y"], ["data.path='x=1 & y'"]),
        (["--data.path", "--task"], ["data.path=--task"]),
        (["spark.master=local[2]", "++a=b (c)"], ["spark.master='local[2]'", "++a='b (c)'"]),
        (["--spark.master", "local[2]"], ["spark.master='local[2]'"]),
        (["a=[1,2]", "b={c: 1}", "d='e f'", "g="], ["a=[1,2]", "b={c: 1}", "d='e f'", "g="]),
        (["--+spark.settings.a", "1"], ["+spark.settings.a=1"]),
    ],
)
def test_option_pairs_become_hydra_overrides(arguments: list[str], expected: list[str]) -> None:
    assert hydra_arguments(arguments) == expected


def test_a_key_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"--training\.epochs "):
        hydra_arguments(["--task", "cola", "--training.epochs"])


@pytest.mark.parametrize(
    "value",
    [
        *(
            "a b",
            "a  b",
            " lead",
            "trail ",
            "$(touch PWNED)",
            "`id`",
            "$HOME",
            "x; rm -rf y",
            "a|b",
            "*.tsv",
            "#x",
            "%d",
        ),
        *("it's", "it''s", "'", "a'b\"c", '"a" b', "\\", "a\\", "a'\\", "a\\'b", "\\'", "a\\\\b (", "C:\\x $(y)"),
        *("[1,2", "{a", "(x)", "a=b", "a:b", "s3://bucket/key?x=1&y=2", "/data/my file (1).tsv", "a\nb", "é ü 日本"),
        *("--x", "$(a) 'b' \"c\" \\d\\", "a\\\\' b("),
    ],
)
def test_special_characters_in_values_arrive_unchanged(value: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", hydra_arguments(["--data.path", value, "--model", "tiny"]))
    assert composed.data.path == value
    assert composed.model.name == "tiny"


def test_parsed_values_keep_their_types() -> None:
    given = ["--training.epochs", "2", "--training.learning_rate", "5e-5", "--training.standardize_labels", "true"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        training = compose("train", hydra_arguments([*given, "--data.path", "null"]), return_hydra_config=False)
    assert (training.training.epochs, training.training.learning_rate) == (2, 5e-5)
    assert training.training.standardize_labels is True
    assert training.data.path is None


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (None, 0, ""),
        (UserError("data.path=x: no such file"), 2, "distilspark: data.path=x: no such file\n"),
        (WorkError("the outputs are NaN"), 1, "distilspark: the outputs are NaN\n"),
        (KeyboardInterrupt(), 130, "distilspark: interrupted\n"),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: Any, code: int, said: str
) -> None:
    def run_hydra(command: str, arguments: list[str]) -> None:
        if raised:
            raise raised

    monkeypatch.setattr(cli, "run_hydra", run_hydra)
    assert main(["train"]) == code
    assert capsys.readouterr().err == said


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(command in shown for command in COMMANDS)


def test_installed_command_equals_python_m_distilspark(tmp_path: Path) -> None:
    """`make setup` installs the project, so PYTHONPATH is not needed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = Path(sys.executable).with_name("distilspark")
    for start in ([str(command)], [sys.executable, "-m", "distilspark"]):
        ended = subprocess.run([*start, "nope"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == 2
        assert ended.stderr.startswith("distilspark: ")
        assert all(re.search(rf"\b{name}\b", ended.stderr) for name in ("nope", *COMMANDS))


def test_every_command_has_a_config_and_a_module() -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} == set(COMMANDS)
    for command in set(COMMANDS) - SERVICES:
        assert command in CONFIGS
        assert (ROOT / "src" / "distilspark" / "workflows" / f"{command}.py").is_file()


def assert_one_line(said: str, *named: str) -> None:
    assert said.startswith("distilspark: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    for name in named:
        assert name in said


@pytest.mark.slow
def test_user_errors_exit_with_2_and_one_line_in_a_new_process(environment: dict[str, str], tmp_path: Path) -> None:
    for arguments, named in (
        (["trian"], ("trian", "train")),
        (["train", "training.epoch=1"], ("training.epoch", "--cfg job")),
        (["train", "model=tiny", "training.learning_rate=-1"], ("training.learning_rate=-1",)),
    ):
        ended = run(environment, tmp_path, *arguments)
        assert ended.returncode == 2, ended.stderr
        assert_one_line(ended.stderr, *named)
        assert ended.stdout == ""


@pytest.mark.slow
def test_every_user_error_exits_with_2_and_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    quick = ["spark.master=local[1]", "data=sample"]
    sweep = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "--multirun"]
    cases: list[tuple[list[str], tuple[str, ...]]] = [
        (["train", "task=colla"], ("task", "colla", "cola", "stsb")),
        (["train", "--task", "colla"], ("task", "colla")),
        (["train", "experiment=none"], ("experiment", "paper")),
        (["train", "stray"], ("stray",)),
        (["train", "training=null"], ("Config group",)),
        (["train", "training.epochs=[1"], ("training.epochs",)),
        (["train", "training.seed=1,2"], ("training.seed",)),
        (["train", "--training.epochs"], ("--training.epochs",)),
        (["train", "model=tiny", "training.epochs=many"], ("training.epochs=many",)),
        (["train", "model=tiny", "+training.epoch=1"], ("training.epoch",)),
        (["train", "model=tiny", "training.epochs=${nowhere}"], ("nowhere",)),
        (["train", "model=tiny", "data=files"], ("data.path", "data=files")),
        (["train", "model=tiny", "data=sample", "task=mnli", "spark.master=local[1]"], ("task=mnli", "data=hub")),
        (
            ["train", "model=tiny", "data=files", "data.path=/no/such place", "spark.master=local[1]"],
            ("/no/such place",),
        ),
        (["train", "model=tiny", "model.path=/no/such/model", *quick], ("model.path=/no/such/model",)),
        (["train", "model=tiny", f"hydra.run.dir={blocked / 'out'}", *quick], ("a file/out",)),
        (["train", "model=tiny", "experiment=loss", "task=stsb"], ("experiment=loss", "training.loss", "--multirun")),
        (["train", "model=tiny", "experiment=loss", *sweep], ("training.loss=mse", "task=cola")),
        (
            ["train", "model=tiny", "task=stsb", "experiment=class_weights", *sweep],
            ("training.class_weights=balanced",),
        ),
        (["train", "model=tiny", "task=cola,stsb", *sweep], ("task=cola,stsb", "hydra/sweeper=basic")),
        (["train", "model=tiny", "model.dropout=interval(0,0.1)", *sweep], ("model.dropout", "hydra/sweeper=optuna")),
        (["train", "model=tiny", "hydra/sweeper=optuna", *sweep], ("nothing to search",)),
        (["train", "model=tiny", "training.seed=1,many", *sweep], ("training.seed=many",)),
    ]
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-c", DRIVER, json.dumps([arguments for arguments, _ in cases]), str(answer)]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    endings = json.loads(answer.read_text())
    assert len(endings) == len(cases) == 23
    for (arguments, named), (code, said) in zip(cases, endings, strict=True):
        assert code == 2, (arguments, said)
        assert_one_line(said, *named)


@pytest.mark.slow
def test_unwritable_cache_exits_with_2(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = {**environment, "DISTILSPARK_CACHE": str(tmp_path / "file" / "cache")}
    ended = run(blocked, tmp_path, "train", "model=tiny", "data=sample")
    assert ended.returncode == 2, ended.stderr
    assert_one_line(ended.stderr, str(tmp_path / "file" / "cache"), "DISTILSPARK_CACHE")


@pytest.mark.slow
def test_work_error_exits_with_1_and_names_the_log(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("where the store keeps its artifacts")
    broken = {**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    ended = run(broken, tmp_path, "train", "model=tiny", "data=sample", f"hydra.run.dir={tmp_path / 'out'}")
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 2, ended.stderr
    log = Path(ended.stderr.rpartition("Details: ")[2].strip())
    assert log == tmp_path / "out" / "train.log"
    assert "Traceback" in log.read_text()


def test_help_of_a_command_lists_the_config_keys(environment: dict[str, str], tmp_path: Path) -> None:
    ended = run(environment, tmp_path, "train", "--help")
    assert ended.returncode == 0
    assert "early_stopping" in ended.stdout
    shown = run(environment, tmp_path, "train", "--cfg", "job", "--training.epochs", "7", "--model", "tiny")
    assert shown.returncode == 0
    assert "epochs: 7" in shown.stdout
    assert not list(tmp_path.iterdir())
