"""An interrupted or failed training records its status in MLflow and keeps what it logged."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers.processes import Place, end_group, train_command

pytestmark = pytest.mark.slow
ENDLESS = ("task=cola", "training.epochs=100000", "training.early_stopping.patience=100000")


@pytest.mark.parametrize("number, to_group", [(signal.SIGTERM, False), (signal.SIGINT, True)], ids=["kill", "ctrl-c"])
def test_signal_during_training_ends_the_run_as_killed(place: Place, number: signal.Signals, to_group: bool) -> None:
    """`kill` and schedulers send SIGTERM to the process; Ctrl-C sends SIGINT to the terminal's process group."""
    name = f"killed-{number.name}"
    output = place.folder / "out" / name
    process = place.start(*train_command(*ENDLESS, f"registry.name={name}", f"hydra.run.dir={output}"))
    try:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                break
        else:
            pytest.fail(process.stderr.read())
        (os.killpg if to_group else os.kill)(process.pid, number)
        _, error = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 130
    assert error == "distilspark: interrupted\n"
    (run,) = [each for each in place.runs("distilspark-cola") if each.data.params.get("registry.name") == name]
    assert run.info.status == "KILLED"
    assert run.info.end_time
    history = place.client.get_metric_history(run.info.run_id, "val/mcc")
    assert len(history) >= 2 and history[0].step == 1
    assert not [metric for metric in run.data.metrics if metric.startswith("dev/")]
    assert {"train.log", "config/config.yaml", "profile/tokens.png"} <= set(place.artifacts(run))
    assert "epoch 2/" in place.artifact(run, "train.log").read_text()
    assert name not in [model.name for model in place.client.search_registered_models()]


def test_sigterm_while_spark_starts_leaves_no_process_behind(place: Place) -> None:
    process = place.start(*train_command("task=cola", "registry.name=too-soon"))
    try:
        jvms = wait_for_java(process.pid)
        process.terminate()
        _, error = process.communicate(timeout=60)
        psutil.wait_procs(jvms, timeout=20)
        assert not [each for each in jvms if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    finally:
        end_group(process)
    assert (process.returncode, error) == (130, "distilspark: interrupted\n")


def wait_for_java(parent: int) -> list[psutil.Process]:
    """Wait until the process has a JVM, which takes seconds longer to start, and return it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(psutil.NoSuchProcess):
            found = [each for each in psutil.Process(parent).children(recursive=True) if each.name() == "java"]
            if found:
                return found
        time.sleep(0.02)
    pytest.fail("no JVM was started")


def test_missing_file_fails_the_run_and_is_named_in_the_error(place: Place) -> None:
    started = time.time()
    wanted = "/no/such place/$(touch PWNED)"
    files = ["data=files", f"data.path={wanted}"]
    tiny = ("model=tiny", "spark.master=local[1]", "spark.driver_memory=1g")
    ended = place.run(*train_command("task=cola", *files, tiny=tiny))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "/no/such place/$(touch PWNED)" in ended.stderr.replace("%20", " ")
    assert not Path(place.folder / "PWNED").exists()
    (run,) = [each for each in place.runs("distilspark-cola") if each.data.params.get("data.path") == wanted]
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("UserError: ")
    assert run.info.start_time / 1000 >= started - 1
    assert {"train.log", "config/config.yaml", "config/overrides.yaml"} <= set(place.artifacts(run))
