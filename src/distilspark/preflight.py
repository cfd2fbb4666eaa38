"""Requirements of the machine, checked before anything heavy is imported."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from distilspark.errors import UserError

JAVA_VERSIONS = (17, 21)  # that Spark 4.3 runs on
HOW_TO_GET_JAVA = (
    "Install one: `apt-get install openjdk-17-jre-headless` (Debian, Ubuntu), `dnf install java-17-openjdk-headless` "
    "(Fedora), `brew install openjdk@17` (macOS), `conda install openjdk=17`; set JAVA_HOME where it is not on the PATH"
)


JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")  # variables that every `java` reads
TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")  # variables, in Python's order
MIN_FREE_BYTES = 2**20  # bytes that must be free for temporary files


def check_machine() -> None:
    """Raise `UserError` if Spark cannot start here, as far as this can be checked without starting it."""
    check_java()
    check_spark_home()
    check_user()
    check_temporary_folder()


def check_java() -> None:
    """Raise `UserError` unless the Java that Spark would start is one that it runs on."""
    java = _java()
    if java is None:
        raise UserError(f"Spark needs Java 17 or 21, and there is none on the PATH or in JAVA_HOME. {HOW_TO_GET_JAVA}")
    if _release_version(java) in JAVA_VERSIONS and not any(os.environ.get(name) for name in JAVA_OPTIONS):
        return
    version, answer = _java_version(java)
    if version in JAVA_VERSIONS:
        return
    if version:
        raise UserError(f"Spark needs Java 17 or 21, and {java} is Java {version}. {HOW_TO_GET_JAVA}")
    options = [f"{name}={os.environ[name]}" for name in JAVA_OPTIONS if os.environ.get(name)]
    if options and answer:
        raise UserError(f"{java} does not start with {' '.join(options)}: {answer}. Correct or unset the variable")
    home = os.environ.get("JAVA_HOME")
    source = f" (JAVA_HOME={home})" if home else ""
    raise UserError(f"Spark needs Java 17 or 21, and {java} is no working Java{source}: {answer}. {HOW_TO_GET_JAVA}")


def _java() -> str | None:
    if home := os.environ.get("JAVA_HOME"):
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def _release_version(java: str) -> int | None:
    """Read the feature release from the file beside a JDK's `bin`, without starting Java."""
    try:
        text = (Path(java).resolve().parents[1] / "release").read_text(encoding="utf-8")
    except (OSError, ValueError, IndexError):
        return None
    match = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(match[1]) if match and os.access(java, os.X_OK) else None


def _java_version(java: str) -> tuple[int | None, str]:
    """Return the feature release (17 for 17.0.15, 8 for 1.8.0; None if unknown) and first line of `java -version`."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except OSError as error:
        return None, error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return None, "it does not answer"
    lines = [line for line in answer.splitlines() if line and not line.startswith("Picked up ")]
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return (int(match[1]) if match else None), (lines or ["no output"])[0]


def check_spark_home() -> None:
    """Raise `UserError` if SPARK_HOME, which PySpark prefers to its own Spark, does not have the same version."""
    home = os.environ.get("SPARK_HOME")
    if home is None:
        return
    needed = importlib.metadata.version("pyspark")
    jars = [re.match(r"spark-core_[\d.]+-([\d.]*\d)", jar.name) for jar in Path(home, "jars").glob("spark-core_*.jar")]
    there = [found[1] for found in jars if found]
    if not there or not Path(home, "bin", "spark-submit").is_file():
        raise UserError(f"SPARK_HOME={home} holds no Spark. Unset it: this project has its own, {needed}")
    if _release(there[0]) != _release(needed):
        raise UserError(f"SPARK_HOME={home} is Spark {there[0]}. Unset it: this project has its own, {needed}")


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


def check_user() -> None:
    """Raise `UserError` if the user has no name and no home: Java and MLflow need both."""
    try:
        import pwd
    except ImportError:  # Windows, where every user has both
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError as error:
        raise UserError(
            f"the user with the id {os.getuid()} has no name and no home (no entry in /etc/passwd), which Spark needs. "
            "Add one, or run as a user who has one (in a container: --user)"
        ) from error


def check_temporary_folder() -> None:
    """Raise `UserError` if the folder for temporary files is missing, cannot be written or is full.

    Python would silently use another one.
    """
    name = next((name for name in TEMPORARY_VARIABLES if os.environ.get(name)), TEMPORARY_VARIABLES[0])
    folder = os.environ.get(name, "")
    try:
        with tempfile.TemporaryFile(dir=folder or None, buffering=0) as file:
            written = file.write(bytes(MIN_FREE_BYTES))
        problem = "" if written == MIN_FREE_BYTES else "it is full"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        where = f"{name}={folder}" if folder else "the folder for temporary files"
        raise UserError(f"{where} cannot be written: {problem}. Free some space, or set {name} to another folder")
