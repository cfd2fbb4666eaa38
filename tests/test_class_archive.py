"""The archive of Spark's classes: written once, used when complete, and specific to its Java."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distilspark import class_archive
from distilspark.class_archive import MAGIC_NUMBER, archive_options, find_archive


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(class_archive, "FOLDER", tmp_path / "var")
    return tmp_path / "var"


def written_to() -> Path:
    """Return the archive file that the next JVM will write."""
    (option, _) = archive_options()
    assert option.startswith('"-XX:ArchiveClassesAtExit=')
    return Path(option.partition("=")[2].strip('"'))


def test_archive_written_by_one_jvm_is_used_by_the_next(folder: Path) -> None:
    written_to().write_bytes(MAGIC_NUMBER + b"classes")
    option, _ = archive_options()
    archive = find_archive()
    assert archive and option == f'"-XX:SharedArchiveFile={archive}"'
    assert archive.read_bytes() == MAGIC_NUMBER + b"classes"
    assert list(folder.iterdir()) == [archive]


def test_incomplete_archive_is_not_used(folder: Path) -> None:
    file = written_to()
    file.write_bytes(b"\0\0\0\0classes")
    assert written_to() == file
    assert find_archive() is None


def test_an_archive_of_another_java_is_deleted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_to().write_bytes(MAGIC_NUMBER)
    archive_options()
    before = find_archive()
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert before and not written_to().name.startswith(before.name)
    assert find_archive() is None


def test_unwritable_folder_disables_the_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.joinpath("file").touch()
    monkeypatch.setattr(class_archive, "FOLDER", folder.parent / "file" / "var")
    assert archive_options() == []
    folder.mkdir()
    monkeypatch.setattr(class_archive, "FOLDER", folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert archive_options() == []
