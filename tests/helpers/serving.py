"""The project's tracking server, for the duration of a test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from helpers.postgres import free_port
from helpers.predicting import wait_for
from helpers.processes import Place, end_group


@contextmanager
def serving(place: Place, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve the store over HTTP; yield the address and the process. Its output goes to a file in the folder."""
    port = free_port()
    own = [f"port={port}", f"store={place.store}", f"artifacts={folder / 'artifacts'}", f"hydra.run.dir={folder}"]
    folder.mkdir()
    with (folder / "server.txt").open("wb") as said:
        process = place.start(sys.executable, "-m", "distilspark", "server", *own, output=said)
    try:
        wait_for(lambda: _answers(port), process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        end_group(process)


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
    except requests.ConnectionError:
        time.sleep(0.2)
        return False
