"""A CDS archive of Spark's classes, which a JVM maps into memory instead of reading and verifying them again.

It halves the time in which Spark starts and runs its first jobs. It depends on Java and the jars, and so is kept in
this Python environment. `python -m distilspark.first_start` makes it; otherwise the JVM of the first command writes it
as it exits, while nobody waits for it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(sys.prefix) / "var" / "distilspark"
MAGIC_NUMBER = (0xF00BABA8).to_bytes(4, "little")  # the JVM writes the archive's first bytes last
QUIET = "-Xlog:cds*=off"  # no warnings about classes that it leaves out


def archive_options() -> list[str]:
    """Return the JVM options that use the archive, or that write it if there is none; none if neither works."""
    archive = FOLDER / f"spark-{_key()}.jsa"
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        _rename_finished(archive)
    except OSError:  # the environment is another user's
        return []
    if archive.exists():
        return [f'"-XX:SharedArchiveFile={archive}"', QUIET]
    if not os.access(FOLDER, os.W_OK):
        return []
    return [f'"-XX:ArchiveClassesAtExit={archive}.{os.getpid()}"', QUIET]


def find_archive() -> Path | None:
    """Return the archive, if there is one."""
    return next(FOLDER.glob("spark-*.jsa"), None)


def _key() -> str:
    """Identify Java and Spark's jars; with other ones a JVM would ignore the archive."""
    java = shutil.which(os.path.expandvars("$JAVA_HOME/bin/java")) or shutil.which("java") or ""
    spec = find_spec("pyspark")
    spark = os.environ.get("SPARK_HOME") or (spec and spec.origin and str(Path(spec.origin).parent)) or ""
    parts = []
    for path in (Path(java).resolve(), Path(spark, "jars").resolve()):
        parts += [str(path), str(path.stat().st_mtime_ns) if path.exists() else ""]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _rename_finished(archive: Path) -> None:
    """Rename an archive that a JVM has finished to its final name, and delete those of other jars."""
    for file in FOLDER.glob("spark-*.jsa*"):
        if not file.name.startswith(archive.name):
            file.unlink(missing_ok=True)
        elif file != archive and _is_complete(file):
            file.replace(archive)


def _is_complete(file: Path) -> bool:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(4) == MAGIC_NUMBER
    return False
