"""Spark's JVM: its options, independence of the locale, and one line of error if it cannot start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distilspark.config import SparkConfig, TrainConfig
from distilspark.errors import UserError, WorkError
from distilspark.features.stop_words import drop_stop_words
from distilspark.jvm import LANGUAGE, explain, java_options
from distilspark.paths import ROOT
from distilspark.spark import _settings

Composer = Callable[..., TrainConfig]
TURKISH = "-Duser.language=tr -Duser.country=TR"


@pytest.fixture
def local(compose_config: Composer) -> SparkConfig:
    return compose_config("model=tiny").spark


# Messages of the JVM, Spark and PySpark; tests/e2e/test_machine.py causes some of them.
@pytest.mark.parametrize(
    "text, kind, named",
    [
        ("Caused by: java.net.UnknownHostException: box: box: Name or service not known", UserError, "SPARK_LOCAL_IP"),
        ("java.net.UnknownHostException: box: Unable to resolve", UserError, "`127.0.0.1 box`"),
        ("java.nio.channels.UnresolvedAddressException", UserError, "SPARK_LOCAL_HOSTNAME"),
        ("ERROR x: java.net.BindException: Cannot assign requested address!", UserError, "SPARK_LOCAL_IP"),
        ("Could not reserve enough space for 104856551424KB object heap", UserError, "spark.driver_memory=4g"),
        ("Invalid maximum heap size: -Xmxabc\nError: Could not create the Java Virtual Machine.", UserError, "-Xmxabc"),
        ("library initialization failed - unable to allocate file\njava.lang.OutOfMemoryError", UserError, "memory"),
        (
            "Error occurred during initialization of VM\nMultiple garbage collectors selected",
            UserError,
            "Multiple garb",
        ),
        ('Error: Invalid option string: "-Xbogus', UserError, "spark-defaults.conf"),
        ("Error occurred during initialization of boot layer\nx", UserError, "boot layer"),
        ("ERROR DiskBlockManager: Failed to create any local dir.", UserError, "SPARK_LOCAL_DIRS"),
        ("java.io.IOException: No space left on device", UserError, "TMPDIR"),
        ('in thread "main" org.apache.spark.SparkException: Master must be', UserError, "spark.master=local[*]"),
        ("SparkIllegalArgumentException: [X] Insufficient executor memory", UserError, "Insufficient executor memory"),
        ("/usr/bin/env: 'bash': No such file or directory", UserError, "PATH"),
        ("# A fatal error has been detected by the Java Runtime Environment", WorkError, "the reason"),
    ],
)
def test_error_names_the_cause_of_a_failed_start(
    local: SparkConfig, text: str, kind: type[Exception], named: str
) -> None:
    error = explain(f"WARNING: Using incubator modules\n{text}\n\tat x.y", local, ValueError("the reason"))
    assert type(error) is kind
    assert named in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("master, kind", [("spark://127.0.0.1:1", WorkError), ("local[2]", UserError)])
def test_refused_connection_is_blamed_on_the_cluster_only_if_there_is_one(
    local: SparkConfig, master: str, kind: type[Exception]
) -> None:
    """When a local JVM dies, PySpark's connection to it is refused too."""
    text = "ERROR x: Failed to create any local dir.\n[Errno 111] Connection refused"
    error = explain(text, replace(local, master=master), ValueError("the reason"))
    assert type(error) is kind
    assert (f"spark.master={master} does not answer" in str(error)) == (kind is WorkError)


@pytest.mark.parametrize("side, first", [("driver", "-Djava.io.tmpdir="), ("executor", LANGUAGE)])
def test_java_options_are_joined_with_those_of_the_user(side: str, first: str) -> None:
    plain, extra = f"spark.{side}.defaultJavaOptions", f"spark.{side}.extraJavaOptions"
    assert java_options({})[plain].strip('"').startswith(first)
    assert extra not in java_options({}), "what stands in spark-defaults.conf must stay"
    for key in (plain, extra):
        assert f"-Dx=y {LANGUAGE}" in java_options({key: "-Dx=y"})[key]


def test_settings_of_the_user_are_not_changed(compose_config: Composer) -> None:
    given = "+spark.settings={spark.executorEnv.LC_ALL: de_DE.UTF-8, spark.driver.extraJavaOptions: '-Dx=y'}"
    settings = _settings(compose_config("model=tiny", given).spark)
    assert settings["spark.executorEnv.LC_ALL"] == "de_DE.UTF-8"
    assert "-Dx=y" in settings["spark.driver.extraJavaOptions"].split()


# Prints how a session treats letters, file names and temporary files, in a new process.
WATCHED = """
import json, os, sys
from pathlib import Path
from pyspark.sql import functions as F
from distilspark.config import SparkConfig
from distilspark.features.pipeline import with_model_texts
from distilspark.spark import open_session
class Task:
    text_columns = ["sentence1"]
settings, folder, texts = json.loads(sys.argv[1])
config = SparkConfig("local[1]", "512m", "512m", 1, 2, False, 1800, settings)
with open_session(config, "watched") as spark:
    rows = spark.createDataFrame([(text,) for text in texts], "sentence1 string").coalesce(1)
    filtered = [row["text1"] for row in with_model_texts(rows, Task, "filtered").collect()]
    lower = [row[0] for row in rows.select(F.lower("sentence1")).collect()]
    named = Path(folder) / "d\\u00e9\\u4e2d" / "\\u0130x.txt"
    named.parent.mkdir()
    named.write_text("a line\\n", encoding="utf-8")
    read = spark.read.text(str(named)).first()[0]
    rows.write.parquet(str(named.parent / "\\u00f6"))
    seen = sorted(os.listdir(named.parent))
    temporary = sorted({name.partition("-")[0] for name in os.listdir(os.environ["TMPDIR"])})
    restored = os.environ.get("LC_ALL")
print("SEEN", json.dumps([filtered, lower, read, seen, temporary, restored]))
"""
TEXTS = ["THE IRIS IS I", "\u0130ST \u00c9 TITLE \u03a3\u0391\u03a3 INDIGO", "I \u0128\u012e J\u0307", "IN IT"]
STOP_WORDS = {"the", "is", "i", "in", "it"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment, settings",
    [
        ({"LC_ALL": "C", "JAVA_TOOL_OPTIONS": TURKISH}, {}),
        ({"_JAVA_OPTIONS": TURKISH}, {}),
        ({"JAVA_TOOL_OPTIONS": "-Duser.language=ar -Duser.country=EG"}, {}),
        ({"LC_ALL": "POSIX"}, {"spark.driver.extraJavaOptions": TURKISH}),
    ],
    ids=["Turkish", "overruled", "Arabic", "given"],
)
def test_letters_and_file_names_are_the_same_in_every_locale(
    tmp_path: Path, environment: dict[str, str], settings: dict[str, str]
) -> None:
    temporary = tmp_path / "my tmp"
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "SPARK_"))}
    own = {"PYTHONPATH": str(ROOT / "src"), "SPARK_CONF_DIR": str(ROOT / "tests/spark"), "TMPDIR": str(temporary)}
    arguments = json.dumps([settings, str(tmp_path), TEXTS])
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, arguments],
        env=kept | own | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    filtered, lower, read, seen, used, restored = json.loads(ended.stdout.partition("SEEN ")[2])
    assert filtered == [drop_stop_words(text, STOP_WORDS) for text in TEXTS]
    assert lower == [text.lower() for text in TEXTS]
    assert read == "a line" and seen == ["\u00f6", "\u0130x.txt"]
    assert {"artifacts", "blockmgr", "spark"} <= set(used)
    assert restored == environment.get("LC_ALL")


def test_executors_get_the_same_locale(local: SparkConfig) -> None:
    settings = _settings(local)
    assert settings["spark.executor.defaultJavaOptions"] == LANGUAGE
    assert settings["spark.executorEnv.LC_ALL"] == "C.UTF-8"
