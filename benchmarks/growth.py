"""The cost of more rows, longer rows, larger models, more cores, more files and larger sweeps.

`make bench-growth` scores with the int8 packages, on ../shared/glue or on the sample corpus if that data is missing,
and compares made-up runs. It takes a quarter of an hour on two cores. `--quick` takes a tiny model and tiny sizes, and
writes to `outputs/bench/quick/`.

`seconds` are those of the job in a running session for a scoring, and of the command for a comparison. The memory is
that of the command with its JVM and Python workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from tqdm import tqdm

from distilspark.features.encoding import encode, load_tokenizer
from distilspark.paths import ROOT
from glue import NAME, read_cola
from results_file import machine, write_results
from scoring import new_output, predict_command, settings_of
from scoring_material import Material, write_material
from stored_runs import write_runs
from worker_memory import watch_memory

PRECISION = "int8"
SEED = 1
Point = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """The sizes to measure. Scorings with a fixed number of rows use `fixed_rows`, those of long rows `long_rows`."""

    model: str = "minilm"
    rows: Sequence[int] = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
    lengths: Sequence[int] = (8, 16, 32, 64, 128, 256)  # tokens
    models: Sequence[str] = ("tiny", "minilm", "grammar")
    cores: Sequence[int] = (1, 2)
    files: Sequence[int] = (1, 5, 20, 50, 200)
    runs: Sequence[int] = (2, 4, 8, 16, 32, 64)
    fixed_rows: int = 10_000
    long_rows: int = 2_000


QUICK = Sizes("tiny", (100, 200), (8, 16), ("tiny",), (1, 2), (1, 2), (2, 3), 200, 50)
QUICK_RESULTS = ROOT / "outputs" / "bench" / "quick"


@dataclass(frozen=True)
class Growth:
    """The input rows, packages and sizes of all measurements."""

    folder: Path
    sizes: Sizes
    materials: Mapping[str, Material]  # by the name of the model; the sizes' own model reads `max(lengths)` tokens

    @property
    def material(self) -> Material:
        """The material of the default model, which all measurements but that of the model size use."""
        return self.materials[self.sizes.model]

    def by_rows(self, rows: int) -> Point:
        """Score `rows` of CoLA's sentences."""
        return score(self.material, rows)

    def by_length(self, tokens: int) -> Point:
        """Score rows that all have this number of tokens."""
        rows, file = self.sizes.long_rows, self.folder / f"length_{tokens}.parquet"
        write_long_rows(file, self.material, rows, tokens)
        return score(self.material, rows, f"input={file}")

    def by_model(self, model: str) -> Point:
        """Score with another model; its size is that of its transformer layers."""
        material = self.materials[model]
        return {"model": model, "size": layer_weights(material)} | score(material, self.sizes.fixed_rows)

    def by_cores(self, cores: int) -> Point:
        """Score with one task for each core."""
        return score(self.material, self.sizes.fixed_rows, f"spark.master=local[{cores}]")

    def by_files(self, files: int) -> Point:
        """Score the same rows from this number of files."""
        rows, folder = self.sizes.fixed_rows, self.folder / f"files_{files}"
        folder.mkdir()
        table = pd.read_parquet(self.material.sentences(rows))
        for number, places in enumerate(np.array_split(np.arange(rows), files)):
            table.iloc[places].to_parquet(folder / f"{number}.parquet", index=False)
        return score(self.material, rows, f"input={folder}")

    def by_runs(self, runs: int) -> Point:
        """Compare this number of runs, each of which is a variant."""
        folder = self.folder / f"runs_{runs}"
        folder.mkdir()
        store = f"sqlite:///{folder / 'mlflow.db'}"
        ids = write_runs(store, folder / "artifacts", runs)
        command = [sys.executable, "-m", "distilspark", "compare", f"runs=[{','.join(ids)}]"]
        settings = settings_of(self.material)
        settings["env"] = settings["env"] | {"MLFLOW_TRACKING_URI": store}
        return run([*command, f"output={folder / 'report'}"], settings)


def panels(sizes: Sizes) -> dict[str, tuple[str, Sequence[Any], Callable[[Growth, Any], Point]]]:
    """Return for each panel its fixed settings, its sizes and its measurement."""
    model, fixed = sizes.model, f"{sizes.fixed_rows:,} rows"
    return {
        "rows": (f"{model}, two cores, one file", sizes.rows, Growth.by_rows),
        "tokens a row": (f"{model}, two cores, {sizes.long_rows:,} rows", sizes.lengths, Growth.by_length),
        "weights of the layers": (f"two cores, {fixed}", sizes.models, Growth.by_model),
        "cores": (f"{model}, {fixed}", sizes.cores, Growth.by_cores),
        "files": (f"{model}, two cores, {fixed} in all", sizes.files, Growth.by_files),
        "compared runs": ("1,043 predictions a run", sizes.runs, Growth.by_runs),
    }


def main() -> None:
    """Measure each panel's points and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="tiny sizes, results in outputs/bench/quick/")
    quick = parser.parse_args().quick
    sizes, before = QUICK if quick else Sizes(), machine()
    plan = [(name, size) for name, (_, measured, _) in panels(sizes).items() for size in measured]
    points: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory(prefix="distilspark-growth-") as scratch:
        growth = Growth(Path(scratch), sizes, write_materials(Path(scratch), sizes))
        for name, size in (bar := tqdm(plan, unit="point")):
            bar.set_description(f"{name}: {size}")
            measured = panels(sizes)[name][2](growth, size)
            points.setdefault(name, []).append({"size": size} | measured)
    figures = {
        name: {"fixed": fixed, "shared": name == "cores", "points": points[name]}  # shared: more should cost less
        for name, (fixed, _, _) in panels(sizes).items()
    }
    settings = {"data": f"CoLA ({NAME})", "precision": PRECISION}
    write_results("growth", {"machine": before, **settings, "panels": figures}, QUICK_RESULTS if quick else None)


def write_materials(folder: Path, sizes: Sizes) -> dict[str, Material]:
    """Write the packages of all models."""
    materials = {}
    for model in {sizes.model, *sizes.models}:
        (folder / model).mkdir()
        materials[model] = write_material(folder / model, model, f"model.max_length={max(sizes.lengths)}")
    return materials


def score(material: Material, rows: int, *overrides: str) -> Point:
    """Run `predict` and return its figures.

    Raises:
        SystemExit: a row was not scored.

    """
    output = new_output(material)
    figures = run(predict_command(material, PRECISION, rows, output, *overrides), settings_of(material))
    manifest = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    if manifest["rows"]["scored"] != rows:
        raise SystemExit(f"{rows} rows went in: {manifest['rows']}")
    return figures | {"seconds": round(manifest["seconds"], 2)}


def run(command: list[str], settings: dict[str, Any]) -> Point:
    """Run a command; return its seconds and its peak memory.

    Raises:
        CalledProcessError: the command failed.

    """
    started = time.perf_counter()
    process = subprocess.Popen(command, **settings)
    peak = watch_memory(process)
    seconds = round(time.perf_counter() - started, 2)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": seconds, "command_seconds": seconds, "peak_mib": round(peak)}


def write_long_rows(file: Path, material: Material, rows: int, tokens: int) -> None:
    """Write rows of random words of CoLA that are one token each."""
    words = sorted({word for text in read_cola("dev")["sentence"] for word in text.split() if word.isalpha()})
    lengths = encode(load_tokenizer(material.network), words, None, 8).lengths
    short = [word for word, length in zip(words, lengths, strict=True) if length == 3]
    drawn = np.random.default_rng(SEED).choice(short, (rows, tokens - 2))  # two are special tokens
    pd.DataFrame({"id": np.arange(rows), "sentence": [" ".join(row) for row in drawn]}).to_parquet(file, index=False)


def layer_weights(material: Material) -> int:
    """Return the number of weights in the transformer layers."""
    arrays = load_file(material.network / "model.safetensors")
    return sum(array.size for name, array in arrays.items() if ".layer." in name)


if __name__ == "__main__":
    main()
