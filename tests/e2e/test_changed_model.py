"""Commands refuse a registered model whose files were changed, and verify signatures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distilspark.tracking.signatures import SIGNATURE, is_signed
from distilspark.tracking.trust import DIGEST_TAG
from helpers.keys import make_keys
from helpers.predicting import SMALL, predict
from helpers.processes import Place
from helpers.sweeping import Swept
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
    assert uri in ended.stderr and "code/distilspark/package/pyfunc.py" in ended.stderr
    assert ended.stderr.count("\n") == 1 and not marker.exists()
    assert not (tmp_path / "scored").exists()


def check_signed(place: Place, name: str) -> str:
    """Check that the key of this name has signed the newest version; return the version's URI."""
    version, *_ = place.client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    key, known_as = f"{place.keys / name}.pub.pem", (name, str(version.version), version.tags[DIGEST_TAG])
    assert is_signed([key], version.tags[SIGNATURE], *known_as)
    return f"models:/{name}/{version.version}"


def test_training_signs_its_version_without_storing_the_private_key(int8_training: Trained, tmp_path: Path) -> None:
    place = int8_training.place
    uri, (_, other) = check_signed(place, "int8"), make_keys(tmp_path, "other")
    assert int8_training.run.data.params["registry.signing_key"] == str(place.keys / "int8.pem")
    secret = (place.keys / "int8.pem").read_text().splitlines()[1]
    files = [file for file in place.folder.rglob("*") if file.is_file() and file.name != "int8.pem"]
    assert len(files) > 50 and not [file for file in files if secret.encode() in file.read_bytes()]
    source = tmp_path / "rows.txt"
    source.write_text("A row.\n")
    ended = predict(place, source, tmp_path / "scored", f"model_uri={uri}", f"registry.trusted_keys=[{other}]")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert uri in ended.stderr and "registry.trusted_keys" in ended.stderr
    keys = f"registry.trusted_keys=[{other},{place.keys / 'int8.pub.pem'}]"
    ended = predict(place, source, tmp_path / "scored", f"model_uri={uri}", keys, "registry.require_digest=true")
    assert ended.returncode == 0, ended.stderr


def test_sweep_signs_the_version_of_its_best_job(ablation: Swept) -> None:
    check_signed(ablation.place, "ablation")


def test_a_key_that_cannot_be_read_is_refused_before_the_training(cola_training: Trained, tmp_path: Path) -> None:
    ended = cola_training.place.train(f"hydra.run.dir={tmp_path / 'out'}", f"registry.signing_key={tmp_path / 'none'}")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert f"registry.signing_key={tmp_path / 'none'}" in ended.stderr
