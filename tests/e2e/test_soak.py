"""A short soak: a training, a scoring and a stream are killed at random moments, and lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distilspark.paths import ROOT

pytestmark = pytest.mark.slow


def test_short_soak_loses_nothing(tmp_path: Path) -> None:
    """One round without kills and one with them; `make soak` goes on for longer, with more rows."""
    soak = [sys.executable, str(ROOT / "benchmarks/soak.py"), "--minutes=0", "--rows=2000", "--seed=32"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "BENCHMARK_RESULTS": str(tmp_path)}
    ended = subprocess.run(soak, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    jobs = json.loads((tmp_path / "soak.json").read_text())["jobs"]
    assert jobs.keys() == {"training", "scoring", "stream"}
    for kind, counts in jobs.items():
        assert counts["jobs"] == 2 and counts["kills"] >= 1, kind
    lost = ("rows_lost", "rows_doubled", "weights_changed", "finished_runs_more_than_one", "files_left")
    assert {name: sum(counts.get(name, 0) for counts in jobs.values()) for name in lost} == dict.fromkeys(lost, 0)
    assert [jobs[kind]["rows"] for kind in ("scoring", "stream")] == [4000, 4000]
