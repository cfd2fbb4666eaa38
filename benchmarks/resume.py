"""Does a training that is killed (SIGKILL) at 30 % of an epoch and restarted end with the weights of an unbroken one?

`make bench-resume` measures it for distilspark and Hugging Face's Trainer (transformers#11323), with the same tiny
random DistilBERT, the same sentences, batch size and learning rate, and a checkpoint every five steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from safetensors.numpy import load_file

from distilspark.corpus.sample import pretraining_rows
from distilspark.model.tiny import write_tiny
from distilspark.paths import ROOT
from results_file import machine, write_results

HERE = Path(__file__).parent
RIVALS_PYTHON = HERE / "rivals" / ".venv" / "bin" / "python"
SETTINGS: dict[str, Any] = json.loads((HERE / "rivals" / "resume_settings.json").read_text())
KILLED_AT = 0.3  # of an epoch
SAMPLINGS = ("random", "group_by_length")
TINY = ("spark.master=local[2]", "spark.driver_memory=1g", "spark.shuffle_partitions=2", "scoring.precision=float32")


def main() -> None:
    """Train, kill, resume and compare, with both tools."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="distilspark-resume-") as name:
        folder = Path(name)
        (folder / "tiny").mkdir()
        write_tiny(folder / "tiny", seed=0)
        generated = pretraining_rows("cola", SETTINGS["rows"], seed=1)
        rows = {"sentence1": list(generated.sentence1), "label": [int(label) for label in generated.labels]}
        (folder / "rows.json").write_text(json.dumps(rows))
        (folder / "data").mkdir()
        for split, part in (("train", slice(None)), ("dev", slice(400))):
            lines = zip(rows["sentence1"][part], rows["label"][part], strict=True)
            text = "".join(json.dumps({"sentence": text, "label": label}) + "\n" for text, label in lines)
            (folder / "data" / f"{split}.jsonl").write_text(text)
        figures = {
            "distilspark": measure_ours(folder),
            **{f"trainer_{sampling}": measure_trainer(folder, sampling) for sampling in SAMPLINGS},
        }
    settings = SETTINGS | {"killed_at": KILLED_AT}
    write_results("trainer_resume", {"machine": before, "settings": settings, "figures": figures})


def measure_ours(folder: Path) -> dict[str, Any]:
    """Kill `train` in each of the first two epochs; compare the weights by their sha256."""
    expected = _our_weights(folder, "unbroken", None)
    return {
        f"killed_in_epoch_{epoch + 1}": {"bit_equal": _our_weights(folder, f"killed-{epoch}", epoch) == expected}
        for epoch in (0, 1)
    }


def _our_weights(folder: Path, name: str, killed_in: int | None) -> str:
    checkpoints = folder / f"checkpoints-{name}"
    process = _train(folder, name, checkpoints)
    if killed_in is not None:
        _kill_within(process, checkpoints, killed_in)
        process = _train(folder, name, checkpoints)
    output, _ = process.communicate()
    if process.returncode or ("resuming after epoch" in output) is (killed_in is None):
        raise RuntimeError(output)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (version,) = client.search_model_versions(f"name = '{name}'")
    return str(client.get_run(str(version.run_id)).data.tags["model.weights_sha256"])


def _train(folder: Path, name: str, checkpoints: Path) -> subprocess.Popen[str]:
    chosen = {
        "task": "cola",
        "model": "tiny",
        "data": "files",
        "data.path": folder / "data",
        "registry.name": name,
        "training.epochs": SETTINGS["epochs"],
        "training.early_stopping.patience": SETTINGS["epochs"],
        "training.batch_size": SETTINGS["batch_size"],
        "training.learning_rate": SETTINGS["learning_rate"],
        "training.seed": SETTINGS["seed"],
        "training.checkpoint_every": f"{SETTINGS['checkpoint_every']} steps",
        "training.checkpoints": checkpoints,
        "hydra.run.dir": folder / "hydra",
    }
    command = [
        sys.executable,
        "-m",
        "distilspark",
        "train",
        *TINY,
        *(f"{key}={value}" for key, value in chosen.items()),
    ]
    own = {
        "PYTHONPATH": str(ROOT / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "DISTILSPARK_CACHE": str(folder / "cache"),
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | own,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _kill_within(process: subprocess.Popen[str], checkpoints: Path, epoch: int) -> None:
    """Kill the process group once its newest checkpoint is at 30 % of that epoch (counted from 0) or later."""
    steps = int(KILLED_AT * SETTINGS["rows"] * 0.8 / SETTINGS["batch_size"])  # a fifth of train is for validation
    while process.poll() is None:
        for file in sorted(checkpoints.glob("*/*.npz"))[-1:]:
            try:
                with np.load(file) as content:
                    position = json.loads(str(content["state"]))["position"]
            except OSError:  # the file has been deleted
                continue
            if (position["epoch"], position["step"]) >= (epoch, steps):
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                print(f"distilspark: killed after epoch {position['epoch'] + 1}, step {position['step']}", flush=True)
                return
        time.sleep(0.01)
    raise RuntimeError(process.communicate()[0])


def measure_trainer(folder: Path, sampling: str) -> dict[str, Any]:
    """Kill Trainer in each of the first two epochs; compare the weights tensor by tensor."""
    steps = SETTINGS["rows"] // SETTINGS["batch_size"]
    expected = _trainer_weights(folder, sampling, 0)
    again = _compare(_trainer_weights(folder, sampling, 0), expected)
    killed = {
        f"killed_in_epoch_{epoch + 1}": _compare(
            _trainer_weights(folder, sampling, int((epoch + KILLED_AT) * steps) + 2), expected
        )
        for epoch in (0, 1)
    }
    return {"not_killed": again, **killed}


def _trainer_weights(folder: Path, sampling: str, kill_at: int) -> dict[str, Any]:
    output = folder / "trainer"
    shutil.rmtree(output, ignore_errors=True)
    command = [str(RIVALS_PYTHON), str(HERE / "rivals" / "trainer_resume.py"), str(folder / "tiny")]
    command += [str(folder / "rows.json"), str(output), sampling]
    for step in [kill_at, 0] if kill_at else [0]:
        ended = subprocess.run([*command, str(step)], capture_output=True, text=True, check=False)
        if ended.returncode != (-signal.SIGKILL if step else 0):
            raise RuntimeError(ended.stderr)
    return load_file(output / "final" / "model.safetensors")


def _compare(weights: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    differences = [float(np.abs(weights[name] - expected[name]).max()) for name in expected]
    return {"bit_equal": _digest(weights) == _digest(expected), "largest_difference": max(differences)}


def _digest(weights: dict[str, Any]) -> str:
    return hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()


if __name__ == "__main__":
    main()
