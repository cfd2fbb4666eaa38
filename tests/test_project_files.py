"""MLproject, environments, lock file and Makefile agree with the code and with each other."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from distilspark.cli import COMMANDS, SERVICES
from distilspark.paths import ROOT
from helpers.texts import lines_with


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def locked() -> dict[str, list[str]]:
    """The requirements of the lock file with their hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {line[0]: [part for part in line if part.startswith("--hash=")] for line in lines}


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no repository")
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_mlproject_entry_points_match_the_commands() -> None:
    entries = read_yaml("MLproject")["entry_points"]
    assert set(entries) >= {"main", *COMMANDS} - SERVICES
    assert entries["main"]["command"] == entries["train"]["command"]
    for name, entry in entries.items():
        command = entry["command"]
        assert command.startswith("PYTHONPATH=src python -m distilspark "), name
        assert command.split()[4] in COMMANDS.keys() - SERVICES, name
        assert not re.search(r"""["']\{|\}["']""", command), "MLflow quotes values itself"
        declared = set(re.findall(r"\{(\w+)\}", command))
        assert declared == set(entry.get("parameters", {})), name


def test_python_and_conda_environments_install_the_lock_file() -> None:
    assert read_yaml("MLproject")["python_env"] == "python_env.yaml"
    python_env = read_yaml("python_env.yaml")
    # with a `python:` key, pyenv would build an interpreter
    assert python_env == {"dependencies": ["-r requirements.lock"]}
    conda = read_yaml("conda.yaml")["dependencies"]
    assert {"pip": ["-r requirements.lock"]} in conda
    assert "openjdk=17" in conda


def test_python_versions_agree_in_all_files(project: dict[str, Any]) -> None:
    assert project["project"]["requires-python"] == ">=3.11,<3.14"
    (python,) = [item for item in read_yaml("conda.yaml")["dependencies"] if str(item).startswith("python=")]
    assert python.removeprefix("python=") in ("3.11", "3.12", "3.13")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / "Makefile").read_text()


def test_lock_file_pins_all_dependencies_with_hashes_and_without_urls(
    locked: dict[str, list[str]], project: dict[str, Any]
) -> None:
    assert len(locked) > 100
    for requirement, hashes in locked.items():
        assert "==" in requirement, requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), requirement
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "index-url" not in text and " @ " not in text
    names = {requirement.partition("==")[0].lower() for requirement in locked}
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    for dependency in wanted:
        assert re.split(r"[<>=;\[ ]", dependency)[0].lower() in names, dependency


def test_every_import_in_src_is_a_dependency(project: dict[str, Any]) -> None:
    modules = {"sklearn": "scikit-learn", "hydra": "hydra-core", "PIL": "pillow", "yaml": "pyyaml"}
    modules["psycopg2"] = "psycopg2-binary"
    modules["hydra_plugins"] = "hydra-joblib-launcher"  # the part of that namespace that we use
    through = {
        "pillow": "matplotlib",
        "pyyaml": "omegaconf",
        "py4j": "pyspark",
        "sqlalchemy": "mlflow",
    }  # these always need them
    declared = {re.split(r"[<>=;\[ ]", each)[0] for each in project["project"]["dependencies"]}
    for file in (ROOT / "src").rglob("*.py"):
        for found in imported_packages(file) - set(sys.stdlib_module_names) - {"distilspark"}:
            name = modules.get(found, found).replace("_", "-")
            assert {name, through.get(name, name)} & declared, f"{file.name} imports {found}"


def imported_packages(file: Path) -> set[str]:
    """Return the top-level packages that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    targets = re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE)
    assert set(phony.split()) == set(targets)
    not_below_make = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    for arguments in (["make"], ["make", "help"]):
        ended = subprocess.run(arguments, cwd=ROOT, env=not_below_make, capture_output=True, text=True, check=True)
        assert {line.split()[0] for line in ended.stdout.splitlines()} == set(targets)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_refuses_an_unsupported_python(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "old").write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    ended = subprocess.run(["make", "train", "PYTHON=./old"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert lines_with(ended.stderr, 3.11, 3.12, 3.13, "./old", "Python 3.9.1")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_never_clears_an_environment_behind_a_link(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "kept").touch()
    (tmp_path / ".venv").symlink_to(tmp_path / "shared")
    command = ["make", "check", f"PYTHON={sys.executable}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and lines_with(ended.stderr, ".venv", "link")
    assert (tmp_path / "shared" / "kept").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
@pytest.mark.parametrize(
    "said, code, shown",
    [
        ("No known vulnerabilities found", 0, "No known vulnerabilities found"),
        ("Found 2 known vulnerabilities in 1 package", 1, "Found 2 known vulnerabilities in 1 package"),
        ("ERROR: x: Dependency not found on PyPI", 1, ".audit/log"),
    ],
)
def test_make_audit_fails_if_the_database_lacks_a_package(tmp_path: Path, said: str, code: int, shown: str) -> None:
    audit = tmp_path / ".audit"
    (audit / "bin").mkdir(parents=True)
    (audit / "bin" / "pip-audit").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    (audit / "bin" / "pip-audit").chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (audit / ".ready").touch()
    ended = subprocess.run(["make", "audit"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) is (code == 0)
    assert shown in ended.stdout + ended.stderr


def test_git_ignores_the_outputs_of_runs() -> None:
    produced = [
        ".venv/x",
        ".server/x",
        "mlruns/1/x",
        "mlflow.db",
        "outputs/x",
        "spark-warehouse/x",
        "src/a/__pycache__/x.pyc",
    ]
    ended = subprocess.run(["git", "check-ignore", *produced], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode == 128:
        pytest.skip("no repository")
    assert ended.stdout.split() == produced


def test_tracked_files_are_small_and_contain_no_local_paths() -> None:
    files = tracked_files()
    assert len(files) > 50
    home = str(Path.home())
    forbidden = [str(ROOT), str(ROOT.parent / "shared")] + ([f"{home}/"] if len(home) > 5 else [])
    for file in files:
        assert file.stat().st_size < 1_000_000, file
        text = file.read_bytes().decode("utf-8", errors="replace")
        for name in forbidden:
            assert name not in text, f"{file} holds {name}"
