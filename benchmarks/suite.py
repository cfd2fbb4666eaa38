"""All benchmarks one after the other, then the documentation's tables and pictures: `make bench`.

Each benchmark's output goes to `outputs/bench/NAME.log`. One that fails does not stop the others, but is named at the
end. `--quick` tries all of them out with tiny sizes: its results, and the page of their tables, go to
`outputs/bench/quick/`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).parent
ROOT = HERE.parent
LOGS = ROOT / "outputs" / "bench"
QUICK = LOGS / "quick"  # as in growth.py
# Scripts of this folder, and the arguments of a quick run; ordinary runs take the defaults.
BENCHMARKS: Mapping[str, str] = {
    "training_speed": "--models tiny --tasks cola --steps 22 --rounds 1",
    "training": "--model tiny --rows 320 --memory-rows 64",
    "scoring": "--model tiny --rows 400 --keras-rows 200 --pytorch-rows 200 --memory-rows 1000 --standalone-rows 200",
    "runtimes": "--models tiny --rows 400 --tokens 256 512 --rounds 1",
    "growth": "--quick",
    "cluster_training": "--model tiny --batch 8 --tokens 8 --steps 3",
    "resume": "",
    "soak": "--minutes 0 --rows 2000",
}


def main() -> int:
    """Run the benchmarks and fill the tables; return 1 if something failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; benchmarks/results/ stays as it is")
    chosen = parser.parse_args()
    names = chosen.only or list(BENCHMARKS)
    arguments = BENCHMARKS if chosen.quick else dict.fromkeys(names, "")
    commands = {name: [sys.executable, str(HERE / f"{name}.py"), *arguments[name].split()] for name in names}
    return run_all(commands | fill_commands(chosen.quick), LOGS, QUICK if chosen.quick else None)


def fill_commands(quick: bool) -> dict[str, list[str]]:
    """Return the commands that write pictures and tables from the results."""
    generate, target = ROOT / "docs" / "generate", ["--output", str(QUICK)] if quick else []
    return {name: [sys.executable, str(generate / f"{name}.py"), *target] for name in ("pictures", "fill")}


def run_all(commands: Mapping[str, Sequence[str]], logs: Path, results: Path | None = None) -> int:
    """Run the commands in turn with a progress bar; print the failed ones, and return 1 if there are any.

    Args:
        commands: by the name of their log.
        logs: the folder of the logs.
        results: the folder of the results, if not `benchmarks/results/`.

    """
    logs.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({"BENCHMARK_RESULTS": str(results)} if results else {})
    failed = []
    for name, command in (bar := tqdm(commands.items(), unit="benchmark")):
        bar.set_description(name)
        with (logs / f"{name}.log").open("w", encoding="utf-8") as log:
            ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
        if ended.returncode:
            failed.append(name)
    for name in failed:
        print(f"failed: {name}, see {logs / f'{name}.log'}", file=sys.stderr)
    if results:
        print(f"results in {results}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
