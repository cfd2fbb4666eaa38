"""Missing requirements of the machine are reported in one line before heavy packages are imported."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distilspark.errors import UserError
from distilspark.paths import ROOT
from distilspark.preflight import MIN_FREE_BYTES, check_java, check_spark_home, check_temporary_folder, check_user
from helpers.texts import has_facts

MAIN = ROOT / "src" / "distilspark" / "__main__.py"
OLD_PYTHONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10")
# Prints which heavy packages were imported when the check failed.
WATCHED = """
import runpy, sys
sys.argv = ["distilspark", "train", "model=tiny"]
try:
    runpy.run_module("distilspark", run_name="__main__")
finally:
    print([name for name in ("pyspark", "tensorflow", "keras", "mlflow", "pandas") if name in sys.modules])
"""


def fake_java(folder: Path, answer: str, code: int = 0) -> Path:
    """Write a `java` that prints this answer to `-version` on standard error, like the real one."""
    folder.mkdir(parents=True, exist_ok=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\nexit {code}\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    "answer, version",
    [
        ('openjdk version "1.8.0_402"', "8"),
        ('openjdk version "11.0.22" 2024-01-16', "11"),
        ('java version "16" 2021-03-16', "16"),
        ('openjdk version "18.0.2"', "18"),
        ('openjdk version "25-ea" 2025-09-16', "25"),
    ],
)
def test_unsupported_java_is_refused_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, version: str
) -> None:
    java = fake_java(tmp_path, answer)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError) as refused:
        check_java()
    said = str(refused.value)
    assert has_facts(said, str(java), f"Java {version}", 17, 21, "openjdk-17-jre-headless")
    assert "\n" not in said


@pytest.mark.parametrize(
    "answer", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "21" 2023-09-19', 'java version "17"']
)
def test_java_17_and_21_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    fake_java(tmp_path, answer)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    check_java()


def test_java_version_is_found_after_a_line_about_java_tool_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path, 'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.15" 2025-04-15')
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    check_java()


def test_missing_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"\bPATH .*JAVA_HOME\b.*: "):
        check_java()


def test_java_home_takes_precedence_over_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path / "path", 'openjdk version "17.0.1"')
    fake_java(tmp_path / "home" / "bin", 'openjdk version "11.0.1"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match="home/bin/java is Java 11"):
        check_java()
    monkeypatch.setenv("JAVA_HOME", "")
    check_java()


@pytest.mark.parametrize("broken", ["nowhere", "silent", "not executable"])
def test_broken_java_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    home = tmp_path / "jdk"
    if broken == "silent":
        fake_java(home / "bin", "Segmentation fault", code=139)
    if broken == "not executable":
        fake_java(home / "bin", 'version "17"').chmod(0o644)
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(UserError, match="jdk/bin/java "):
        check_java()


def test_invalid_java_home_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    with pytest.raises(UserError, match=rf"JAVA_HOME={tmp_path}/jdk\): No such file"):
        check_java()


def test_java_tool_options_that_java_refuses_are_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path, "Picked up JAVA_TOOL_OPTIONS: -Xbogus\nUnrecognized option: -Xbogus", code=1)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xbogus")
    with pytest.raises(UserError, match="JAVA_TOOL_OPTIONS=-Xbogus: Unrecognized option: -Xbogus"):
        check_java()


def spark_home(folder: Path, version: str) -> Path:
    """Create the files of a Spark installation that are checked."""
    for file in (folder / "bin/spark-submit", folder / f"jars/spark-core_2.13-{version}.jar"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


@pytest.mark.parametrize("case", ["nowhere", "empty", "old"])
def test_missing_or_other_spark_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    home = tmp_path / case
    if case == "old":
        spark_home(home, "3.5.1")
    monkeypatch.setenv("SPARK_HOME", "" if case == "empty" else str(home))
    with pytest.raises(UserError, match=r"SPARK_HOME=.*Unset it") as refused:
        check_spark_home()
    assert ("3.5.1" in str(refused.value)) == (case == "old")


@pytest.mark.parametrize("ending", ["", "-vendor-0", ".99"])
def test_spark_home_of_the_same_release_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    version = importlib.metadata.version("pyspark")
    release = version.rpartition(".")[0] if ending.startswith(".") else version
    monkeypatch.setenv("SPARK_HOME", str(spark_home(tmp_path, release + ending)))
    check_spark_home()
    monkeypatch.delenv("SPARK_HOME")
    check_spark_home()


@pytest.mark.parametrize("variable", ["TMPDIR", "TEMP"])
@pytest.mark.parametrize("case", ["nowhere", "a file"])
def test_unusable_temporary_folder_is_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, case: str
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / case))
    with pytest.raises(UserError, match=f"{variable}={tmp_path}/{case} "):
        check_temporary_folder()


def test_full_temporary_folder_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check_temporary_folder()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIN_FREE_BYTES // 2, before[1]))  # writes fail as on a full disk
    try:
        with pytest.raises(UserError, match=f"TMPDIR={tmp_path} .*full"):
            check_temporary_folder()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_user_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_user()
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    with pytest.raises(UserError, match="3999999999 "):
        check_user()


@pytest.mark.parametrize("case", ["no java", "old java", "JAVA_HOME to nowhere"])
def test_command_without_a_usable_java_exits_with_2_before_heavy_imports(tmp_path: Path, case: str) -> None:
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": str(tmp_path), "HOME": str(tmp_path)}
    if case == "old java":
        (tmp_path / "cat").symlink_to(str(shutil.which("cat")))
        fake_java(tmp_path, 'openjdk version "11.0.22"')
    if case == "JAVA_HOME to nowhere":
        environment["JAVA_HOME"] = str(tmp_path / "nowhere")
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout.strip() == "[]"
    assert ended.stderr.count("\n") == 1 and ended.stderr.startswith("distilspark: ")
    assert has_facts(ended.stderr, "Java", 17, 21)


def interpreter(version: str) -> Path | None:
    """Return a working Python of this version from pyenv or the PATH, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*pyenv.glob(f"{version}.*/bin/python"), Path(shutil.which(f"python{version}") or "/nowhere")]
    for candidate in candidates:
        if (
            candidate.exists()
            and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    return None


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_old_python_is_refused_in_one_line(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    ended = subprocess.run(
        [python, "-m", "distilspark", "train"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("distilspark: ") and ended.stderr.count("\n") == 1
    assert has_facts(ended.stderr, 3.11, 3.12, 3.13, str(python), f"Python {version}")


def test_version_check_has_old_syntax_and_precedes_other_imports() -> None:
    for file in (MAIN, MAIN.with_name("__init__.py")):
        tree = ast.parse(file.read_text(), feature_version=(3, 4))
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        check = [node.lineno for node in tree.body if isinstance(node, ast.If)][:1]
        early = [ast.unparse(node) for node in imports if not check or node.lineno < check[0]]
        assert early in (["import sys"], [])


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_unsupported_python_versions_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(MAIN))
    assert ended.value.code == 2
    assert f"is Python {version[0]}.{version[1]}\n" in capsys.readouterr().err
