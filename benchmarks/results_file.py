"""The results file of a benchmark: command, commit, machine, versions and figures.

The variable `BENCHMARK_RESULTS` names another folder for the files, for trying a benchmark out.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from distilspark.processor import cpu_flags
from distilspark.tracking.runs import run_git

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")
FLAGS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}
PACKAGES = ("keras", "keras-hub", "mlflow", "numpy", "onnxruntime", "pyspark", "tensorflow", "tokenizers")


def write_results(name: str, figures: dict[str, Any], folder: Path | None = None) -> None:
    """Write `NAME.json` to the folder, by default that of the results, and print it."""
    results = {
        "command": f"python {' '.join([f'benchmarks/{Path(sys.argv[0]).name}', *sys.argv[1:]])}",
        "commit": run_git("describe", "--always", "--dirty", "--abbrev=12"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        **figures,
    }
    text = json.dumps(results, indent=2) + "\n"
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    print(text)


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, and the last minute's load, which shows whether the machine was idle."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor()
    lines = information.read_text().splitlines()
    name = next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return f"{name} ({', '.join(sorted(FLAGS & cpu_flags())) or 'no AVX2'})"
