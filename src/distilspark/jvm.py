"""Options of Spark's JVM, and the cause if it does not start."""

from __future__ import annotations

import locale
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from distilspark.class_archive import archive_options
from distilspark.config import SparkConfig
from distilspark.console import written_to_stderr
from distilspark.errors import UserError, WorkError, one_line

UTF8 = "C.UTF-8"  # a locale of all systems that have any UTF-8 locale
LANGUAGE = "-Duser.language=en -Duser.country=US"
# the second compiler (C2) takes half of a short job's CPU; a long job waits for Python
FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
UNREACHABLE = re.compile(r"All masters are unresponsive|Failed to connect to master \S+|Connection refused[^\n]*")
OPTION_SOURCES = "spark.settings, spark-defaults.conf, SPARK_SUBMIT_OPTS, PYSPARK_SUBMIT_ARGS and JAVA_TOOL_OPTIONS"
# What the JVM writes, or raises, when it does not start; the first match is the cause. {0} is the match, {1} the
# pattern's group.
CAUSES = {
    r"java\.net\.UnknownHostException: ([^\s:]+)": "the host name {1} has no address: add it to /etc/hosts "
    "(`127.0.0.1 {1}`), or set SPARK_LOCAL_IP=127.0.0.1",
    r"java\.nio\.channels\.UnresolvedAddressException": "Spark's own host name has no address: correct or unset "
    "SPARK_LOCAL_HOSTNAME, SPARK_PUBLIC_DNS, spark.driver.host",
    r"java\.net\.BindException: [^!\n]+": "Spark cannot listen: {0}. Correct or unset SPARK_LOCAL_IP, "
    "spark.driver.bindAddress, spark.driver.port",
    r".*(?:[Hh]eap size|object heap|maximum heap|initial heap|insufficient memory|Cannot allocate memory|"
    r"OutOfMemoryError|native thread).*": "Java cannot start with this memory: {0}. Set "
    "spark.driver_memory={memory} to a size that fits this machine, e.g. spark.driver_memory=1g",
    r".*(?:Failed to create any local dir|No space left on device|Failed to create a temp directory).*": "Spark's "
    "folder for temporary files cannot be written: {0}. Correct or unset SPARK_LOCAL_DIRS, spark.local.dir, TMPDIR",
    r"(?m)^(?:Error: )?((?:Unrecognized|Unsupported|Invalid|Improperly|Multiple|Conflicting|Not allowed|Could not find|"
    r"Error occurred during initialization of boot layer).*)": "Java does not start with its options: {1}. "
    f"Correct them in {OPTION_SOURCES}",
    r"(?:IllegalArgument|NumberFormat|Spark)\w*Exception: (.+)": "Spark does not start with its settings: {1}. "
    f"Correct spark.master={{master}}, or {OPTION_SOURCES}",
    r"(?m)^Error: (.+)": f"Spark does not start: {{1}}. Correct {OPTION_SOURCES}",
    r"(?m)^\S*env: .*": "Spark's start script does not run: {0}. Correct PATH",
}


def java_options(given: Mapping[str, str], *, local: bool = False) -> dict[str, str]:
    """Return settings for the options of the driver's and the executors' JVMs, joined with the given ones.

    A driver without executors does not use the second compiler, and reads its classes from an archive. Temporary files
    go to Python's folder. Letters are lower-cased as in English; this option is last, so that it prevails. Options in
    `spark-defaults.conf` are kept: if none are given, ours use the key that Spark puts before those.
    """
    settings = {}
    driver = " ".join(
        [f'"-Djava.io.tmpdir={tempfile.gettempdir()}"', *([FIRST_COMPILER, *archive_options()] if local else [])]
    )
    for side, first in (("driver", driver), ("executor", "")):
        extra = f"spark.{side}.extraJavaOptions"
        key = extra if extra in given else f"spark.{side}.defaultJavaOptions"
        settings[key] = " ".join(filter(None, [first, given.get(key), LANGUAGE]))
    return settings


@contextmanager
def starting_jvm(config: SparkConfig) -> Iterator[None]:
    """Set a UTF-8 locale for the JVM that starts inside, and convert its failure to an error with its cause.

    Raises:
        UserError: the machine or the settings are unsuitable for Spark; the message names the problem and a remedy.
        WorkError: it did not start for another reason.

    """
    with written_to_stderr() as written, _utf8_locale():
        try:
            yield
        except Exception as error:
            raise explain(f"{written()}\n{error}", config, error) from error


def explain(text: str, config: SparkConfig, error: Exception) -> Exception:
    """Return an error with the cause that is found in what a JVM wrote and raised."""
    is_elsewhere = not config.master.startswith("local") or "PYSPARK_GATEWAY_PORT" in os.environ
    if is_elsewhere and (found := UNREACHABLE.search(text)):
        return WorkError(
            f"spark.master={config.master} does not answer: {found[0]}. Start the cluster, set another spark.master, "
            "or unset PYSPARK_GATEWAY_PORT where it is set"
        )
    for pattern, message in CAUSES.items():
        if found := re.search(pattern, text):
            groups = [part.strip(" .!") for part in (found[0], *found.groups())]
            return UserError(message.format(*groups, memory=config.driver_memory, master=config.master))
    return WorkError(f"Spark does not start: {one_line(error)}. Its output is in the log")


@contextmanager
def _utf8_locale() -> Iterator[None]:
    """Set a UTF-8 locale if Python reads file names as UTF-8 and a JVM would not, as under `LC_ALL=C`.

    A JVM takes the encoding of file names from its locale only.
    """
    if sys.getfilesystemencoding() != "utf-8" or locale.getencoding().lower() in ("utf-8", "utf8"):
        yield
        return
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = UTF8
    try:
        yield
    finally:
        os.environ.pop("LC_ALL") if before is None else os.environ.update(LC_ALL=before)
