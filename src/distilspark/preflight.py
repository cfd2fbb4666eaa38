"""What must be on the machine, checked before anything heavy is imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from distilspark.errors import UserError

JAVA_VERSIONS = (17, 21)  # that Spark 4.3 runs on
HOW_TO_GET_JAVA = (
    "Install one: `apt-get install openjdk-17-jre-headless` (Debian, Ubuntu), `dnf install java-17-openjdk-headless` "
    "(Fedora), `brew install openjdk@17` (macOS), `conda install openjdk=17`; set JAVA_HOME where it is not on the PATH"
)


def check_java() -> None:
    """Raise `UserError` unless the Java that Spark would start is one that it runs on."""
    java = _java()
    if java is None:
        raise UserError(f"Spark needs Java 17 or 21, and there is none on the PATH or in JAVA_HOME. {HOW_TO_GET_JAVA}")
    version = _java_version(java)
    if version not in JAVA_VERSIONS:
        found = f"Java {version}" if version else "no working Java"
        raise UserError(f"Spark needs Java 17 or 21, and {java} is {found}. {HOW_TO_GET_JAVA}")


def _java() -> str | None:
    if home := os.environ.get("JAVA_HOME"):
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def _java_version(java: str) -> int | None:
    """The feature release (17 for 17.0.15, 8 for 1.8.0), None where `java -version` does not answer."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return int(match[1]) if match else None
