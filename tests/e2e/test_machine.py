"""Problems of the machine: Spark cannot start, or the reader of the output goes away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import Place, train_command

pytestmark = pytest.mark.slow
NO_ADDRESS = {"JAVA_TOOL_OPTIONS": "-Djdk.net.hosts.file=/dev/null"}  # the JVM then resolves no host name
COLLECTORS = "+spark.settings={spark.driver.extraJavaOptions: '-XX:+UseSerialGC -XX:+UseParallelGC'}"
NOWHERE = "/proc/nowhere"


@pytest.mark.parametrize(
    "overrides, environment, named",
    [
        ([], NO_ADDRESS, ["has no address", "SPARK_LOCAL_IP=127.0.0.1"]),
        (["spark.driver_memory=99999g"], {}, ["spark.driver_memory=99999g", "object heap"]),
        ([COLLECTORS], {}, ["Multiple garbage collectors", "spark.settings"]),
        (["spark.master=yarm"], {}, ["spark.master=yarm"]),
        ([], {"SPARK_LOCAL_DIRS": NOWHERE}, ["SPARK_LOCAL_DIRS", NOWHERE]),
        ([], {"SPARK_HOME": NOWHERE}, [f"SPARK_HOME={NOWHERE}", "Unset it"]),
        ([], {"JAVA_HOME": NOWHERE}, [f"JAVA_HOME={NOWHERE}", "Install one"]),
        ([], {"TMPDIR": NOWHERE}, [f"TMPDIR={NOWHERE}"]),
    ],
    ids=["host name", "memory", "options", "master", "local folders", "SPARK_HOME", "JAVA_HOME", "TMPDIR"],
)
def test_error_names_the_cause_when_spark_cannot_start(
    place: Place, tmp_path: Path, overrides: list[str], environment: dict[str, str], named: list[str]
) -> None:
    ended = place.run(*train_command(*overrides, f"hydra.run.dir={tmp_path / 'out'}"), **environment)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("distilspark: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert all(name in ended.stderr for name in named), ended.stderr


def test_unreachable_cluster_exits_with_1(place: Place, tmp_path: Path) -> None:
    ended = place.run(*train_command("spark.master=spark://127.0.0.1:9", f"hydra.run.dir={tmp_path / 'out'}"))
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("distilspark: spark.master=spark://127.0.0.1:9 ")
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_training_finishes_when_its_output_pipe_is_closed(place: Place, tmp_path: Path) -> None:
    command = train_command("registry.name=unread", "training.epochs=1", f"hydra.run.dir={tmp_path / 'out'}")
    with subprocess.Popen(
        command, cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().startswith("CoLA")
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")
    assert str(place.client.get_registered_model("unread").aliases["challenger"]) == "1"


@pytest.mark.parametrize("arguments", [["train", "model=tiny", "--cfg", "all"], ["--help"]])
def test_closed_output_pipe_is_no_error_for_help_and_config(place: Place, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "distilspark", *arguments]
    ended = place.run("bash", "-c", 'set -o pipefail; "$@" | true', "shell", *command)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_two_runs_in_one_folder_log_separate_files(place: Place, tmp_path: Path) -> None:
    for name in ("one", "two"):
        given = [f"registry.name={name}", f"model.path={NOWHERE}/{name}", f"hydra.run.dir={tmp_path}"]
        ended = place.run(*train_command(*given), MLFLOW_EXPERIMENT_NAME=tmp_path.name)
        assert ended.returncode == 2, ended.stderr
    two, one = place.runs(tmp_path.name)
    for run, own, other in ((one, "one", "two"), (two, "two", "one")):
        log = place.artifact(run, "train.log").read_text()
        assert f"{NOWHERE}/{own}" in log and f"{NOWHERE}/{other}" not in log
