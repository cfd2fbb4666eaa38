"""A progress bar for downloads that others make (pip, huggingface_hub): it watches their folders grow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from distilspark.console import progress_bar

SECONDS = 0.3
MEGABYTE = 1_000_000


@contextmanager
def growth_shown(title: str, folders: Sequence[Path], total: int | None) -> Iterator[None]:
    """Show how the folders grow while the block runs; `total` in bytes, None where nobody knows."""
    ended = Event()
    before, most = _size(folders), total or sys.maxsize
    with progress_bar() as bar:
        task = bar.add_task(f"{title}, MB", total=total and total // MEGABYTE)

        def watch() -> None:
            while not ended.wait(SECONDS):  # pip copies what it has downloaded: for a moment it is there twice
                bar.update(task, completed=min(_size(folders) - before, most) // MEGABYTE)

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _size(folders: Sequence[Path]) -> int:
    return sum(_file_size(file) for folder in folders for file in folder.rglob("*"))


def _file_size(file: Path) -> int:
    with suppress(OSError):  # a download's temporary file may be gone by now
        return file.stat().st_size if file.is_file() else 0
    return 0
