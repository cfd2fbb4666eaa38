"""Scoring speed: `predict` against its rivals, each in its own process, one after the other; memory; a small cluster.

`make bench-predict` runs it with MiniLM on ../shared/glue, or on the sample corpus if that data is missing. It takes
half an hour on two cores. `--only NAME ...` repeats some measurements and keeps the others of the file.

`job_seconds` cover reading, loading the model, scoring and writing in a running session; `process_seconds` cover the
whole command. A rival is compared by its rows a second without loading, which favours the rival.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd

from distilspark.paths import ROOT
from glue import NAME
from results_file import RESULTS, machine, write_results
from scoring_material import Material, write_material
from standalone_cluster import standalone_cluster
from worker_memory import watch_workers

HERE = Path(__file__).parent
RIVALS_PYTHON = HERE / "rivals" / ".venv" / "bin" / "python"
CORES = 2
LEAST_AGREEMENT = 0.999
LIMIT = (
    "two cores in all: on the cluster the driver, the master and two workers with an executor each share them, while "
    "local[1] has the second core for its JVM; reading, checking and writing do not get faster"
)
Figures = dict[str, Any]
MEASUREMENTS: dict[str, Callable[[Material, argparse.Namespace], Figures]] = {
    "distilspark_int8": lambda material, chosen: measure_predict(material, "int8", chosen.rows),
    "distilspark_float32": lambda material, chosen: measure_predict(material, "float32", chosen.rows),
    "one_process_int8": lambda material, chosen: measure_one_process(material, "int8", chosen.rows),
    "one_process_float32": lambda material, chosen: measure_one_process(material, "float32", chosen.rows),
    "keras_padded": lambda material, chosen: measure_rival(material, "keras_padded", chosen.keras_rows),
    "pytorch_pipeline": lambda material, chosen: measure_rival(material, "pytorch_pipeline", chosen.pytorch_rows),
    "memory": lambda material, chosen: measure_memory(material, "int8", chosen.memory_rows),
    "standalone": lambda material, chosen: measure_standalone(material, "int8", chosen.standalone_rows),
}


def main() -> None:
    """Run the measurements and write the results."""
    chosen = _arguments()
    before, file = machine(), RESULTS / "scoring.json"
    known = json.loads(file.read_text(encoding="utf-8"))["measurements"] if chosen.only and file.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="distilspark-bench-") as folder:
        material = write_material(Path(folder), chosen.model)
        measured = {name: _measure(name, material, chosen) for name in chosen.only or MEASUREMENTS}
    figures = {
        "data": f"CoLA ({NAME})",
        "network": f"{chosen.model}, cut at 64 tokens, with a head that was not trained",
        "cores": CORES,
        "times_as_fast": compare(known | measured),
        "measurements": known | measured,
    }
    write_results("scoring", {"machine": before, **figures})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minilm", help="a file of conf/model/")
    parser.add_argument("--rows", type=int, default=200_000, help="for distilspark and one process")
    parser.add_argument("--keras-rows", type=int, default=8_000)
    parser.add_argument("--pytorch-rows", type=int, default=30_000)
    parser.add_argument("--memory-rows", type=int, default=1_000_000)
    parser.add_argument("--standalone-rows", type=int, default=40_000)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    chosen = parser.parse_args()
    if {"keras_padded", "pytorch_pipeline"} & set(chosen.only or MEASUREMENTS) and not RIVALS_PYTHON.is_file():
        parser.error("the rivals have no environment yet: `make bench-predict` sets up benchmarks/rivals/.venv")
    return chosen


def _measure(name: str, material: Material, chosen: argparse.Namespace) -> Figures:
    print(f"measuring {name}", flush=True)
    return {"at": datetime.now().astimezone().isoformat(timespec="minutes"), **MEASUREMENTS[name](material, chosen)}


def measure_predict(material: Material, precision: str, rows: int, *overrides: str) -> Figures:
    """Measure the project's own command, in `local[2]` unless overridden."""
    output = new_output(material)
    started = time.perf_counter()
    subprocess.run(predict_command(material, precision, rows, output, *overrides), check=True, **settings_of(material))
    return _predict_figures(material, precision, output, time.perf_counter() - started)


def measure_memory(material: Material, precision: str, rows: int) -> Figures:
    """Measure scoring in ten chunks: the peak MiB of the largest Python worker in each."""
    output = new_output(material)
    done = output.parent / f".{output.name}.staging" / "done"
    started = time.perf_counter()
    command = predict_command(material, precision, rows, output, f"predict.rows_per_chunk={rows // 10}")
    driver = subprocess.Popen(command, **settings_of(material))
    peaks = watch_workers(driver, lambda: len(list(done.glob("[0-9]*.json"))))
    if driver.returncode:
        raise subprocess.CalledProcessError(driver.returncode, command)
    figures = _predict_figures(material, precision, output, time.perf_counter() - started)
    return figures | {"precision": precision, "peak_mib_in_each_chunk": [round(peak) for peak in peaks]}


def measure_one_process(material: Material, precision: str, rows: int) -> Figures:
    """Measure the package in one process without Spark, with as many threads as Spark has cores."""
    return _measure_program(material, sys.executable, HERE / "one_process.py", rows, material.package(precision))


def measure_rival(material: Material, name: str, rows: int) -> Figures:
    """Measure a program of `rivals/`, in the rivals' environment."""
    script = HERE / "rivals" / f"{name}.py"
    figures = _measure_program(material, str(RIVALS_PYTHON), script, rows, material.network)
    loaded = rows / (figures["job_seconds"] - figures["load_seconds"])
    _check(figures["agreement"], name)
    return figures | {"rows_a_second_without_loading": round(loaded, 1)}


def measure_standalone(material: Material, precision: str, rows: int) -> Figures:
    """Measure two one-core workers against one core."""
    alone = measure_predict(material, precision, rows, "spark.master=local[1]")
    with standalone_cluster(new_output(material), CORES, memory="2g") as cluster:
        resources = ["spark=standalone", "spark.executor_cores=1", "spark.executor_memory=1g"]
        together = measure_predict(material, precision, rows, *resources, f"spark.master={cluster.master}")
    speed_up = {
        seconds: round(alone[seconds] / together[seconds], 2)
        for seconds in ("scoring_seconds", "job_seconds", "process_seconds")
    }
    return {"precision": precision, "local[1]": alone, "two_workers": together, "speed_up": speed_up, "limit": LIMIT}


def predict_command(material: Material, precision: str, rows: int, output: Path, *overrides: str) -> list[str]:
    """Return a command that scores this many sentences, in `local[2]` unless overridden."""
    settings = [
        "task=cola",
        f"input={material.sentences(rows)}",
        f"output={output}",
        f"model_uri={material.model_uris[precision]}",
        f"spark.master=local[{CORES}]",
        "spark.driver_memory=2g",
    ]
    return [sys.executable, "-m", "distilspark", "predict", *settings, *overrides]


def _predict_figures(material: Material, precision: str, output: Path, seconds: float) -> Figures:
    manifest = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    figures = {"job_seconds": manifest["seconds"], "scoring_seconds": manifest["scoring_seconds"]}
    figures = _figures(material, output, manifest["rows"]["in"], seconds, figures)
    if precision == "float32":
        _check(figures["agreement"], "distilspark")
    return figures


def _measure_program(material: Material, python: str, script: Path, rows: int, model: Path) -> Figures:
    output = new_output(material)
    command = [python, str(script), str(material.sentences(rows)), str(output), str(model), str(CORES)]
    started = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, **settings_of(material))
    seconds = time.perf_counter() - started
    return _figures(material, output, rows, seconds, json.loads(ended.stdout.splitlines()[-1]))


def new_output(material: Material) -> Path:
    """Create a new folder, and return the path of an output in it."""
    return Path(tempfile.mkdtemp(dir=material.folder)) / "scored"


def settings_of(material: Material) -> dict[str, Any]:
    """Return the options of a subprocess that works with the material."""
    own = {
        "PYTHONPATH": str(ROOT / "src"),
        "MLFLOW_TRACKING_URI": material.store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_OFFLINE": "1",
    }
    return {"cwd": material.folder, "env": os.environ | own, "text": True}


def _figures(material: Material, output: Path, rows: int, process_seconds: float, figures: Figures) -> Figures:
    seconds = figures | {"process_seconds": process_seconds}
    return {
        "rows": rows,
        **{name: round(value, 2) if isinstance(value, float) else value for name, value in seconds.items()},
        "rows_a_second": round(rows / figures["job_seconds"], 1),
        "agreement": agreement(material, output, rows),
    }


def agreement(material: Material, output: Path, rows: int) -> Figures:
    """Return the share of labels equal to the Keras network's, and the largest difference of a probability.

    Raises:
        SystemExit: the output does not have every row exactly once.

    """
    scored = pd.read_parquet(output, columns=["id", "prediction", "score"])
    if sorted(scored["id"]) != list(range(rows)):
        raise SystemExit(f"{rows} rows went in, {len(scored)} came out, {scored['id'].nunique()} of them different")
    both = scored.merge(material.reference, on="id", suffixes=("", "_reference"))
    same = (both["prediction"] == both["prediction_reference"]).mean()
    difference = (both["score"] - both["score_reference"]).abs().max()
    return {"rows": len(both), "same_label": round(float(same), 5), "largest_difference": float(f"{difference:.1e}")}


def _check(agreement: Figures, name: str) -> None:
    if agreement["same_label"] < LEAST_AGREEMENT:
        raise SystemExit(f"{name} gives other labels than the network: {agreement}. It does not do the same work")


def compare(measurements: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """Return how many times as fast `predict` is, for its whole job."""
    return {
        precision: {
            rival: round(measurements[own]["rows_a_second"] / _best_rate(measurements[rival]), 2)
            for rival in ("keras_padded", "pytorch_pipeline", f"one_process_{precision}")
            if rival in measurements
        }
        for precision in ("int8", "float32")
        if (own := f"distilspark_{precision}") in measurements
    }


def _best_rate(rival: Figures) -> float:
    return float(rival.get("rows_a_second_without_loading", rival["rows_a_second"]))


if __name__ == "__main__":
    main()
