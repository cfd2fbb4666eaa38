"""No command uses a registered model whose files have changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.predicting import SMALL
from helpers.trained import Trained

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["predict", "evaluate", "promote", "compare"])
def test_a_changed_package_is_refused_before_its_code_runs(
    cola_training: Trained, tmp_path: Path, command: str
) -> None:
    place, package = cola_training.place, cola_training.package
    (version,) = place.client.search_model_versions(f"run_id = '{cola_training.run.info.run_id}'")
    uri, marker = f"models:/{version.name}/{version.version}", tmp_path / "marker"
    source = tmp_path / "rows.txt"
    source.write_text("A row.\n")
    given = {
        "predict": [f"model_uri={uri}", f"input={source}", f"output={tmp_path / 'scored'}", *SMALL],
        "evaluate": [f"model_uri={uri}", "data=sample", *SMALL],
        "promote": [f"registry.name={version.name}", "data=sample", *SMALL],
        "compare": [f"models=[{uri},{uri}]"],
    }[command]
    code = package / "code/distilspark/package/pyfunc.py"
    kept = code.read_bytes()
    try:
        code.write_bytes(b"open(%r, 'w')\n" % str(marker) + kept)
        ended = place.run(sys.executable, "-m", "distilspark", command, *given, f"hydra.run.dir={tmp_path / 'hydra'}")
    finally:
        code.write_bytes(kept)
    assert ended.returncode == 2, ended.stderr
    assert f"{uri} is not the package that was registered: code/distilspark/package/pyfunc.py was changed" in (
        ended.stderr
    )
    assert ended.stderr.count("\n") == 1 and not marker.exists()
    assert not (tmp_path / "scored").exists()
