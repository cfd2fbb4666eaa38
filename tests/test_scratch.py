"""A process's temporary files are deleted when it ends, or at the next start if it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from distilspark.paths import ROOT

PROGRAM = """
import os, sys, tempfile
from distilspark.scratch import use_scratch_folder
use_scratch_folder()
use_scratch_folder()
open(tempfile.mkdtemp() + "/model", "w").close()
print(os.environ["TMPDIR"] == tempfile.gettempdir() != sys.argv[1], flush=True)
if "wait" in sys.argv:
    sys.stdin.read()
if "killed" in sys.argv:
    os.kill(os.getpid(), 9)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_temporary_files_are_deleted_when_the_process_ends(tmp_path: Path) -> None:
    assert start(tmp_path).communicate() == ("True\n", None)
    assert not list(tmp_path.iterdir())


def test_next_start_deletes_only_the_temporary_files_of_killed_processes(tmp_path: Path) -> None:
    start(tmp_path, "killed").communicate()
    (left,) = tmp_path.iterdir()
    running = start(tmp_path, "wait")
    assert running.stdout and running.stdout.readline() == "True\n"
    (own,) = tmp_path.iterdir()
    assert own != left
    start(tmp_path).communicate()
    assert list(own.rglob("model"))
    running.communicate()
    assert not list(tmp_path.iterdir())
