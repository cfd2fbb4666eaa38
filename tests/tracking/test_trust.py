"""A registered version is loaded only if its files are unchanged; otherwise the error names the file."""

from __future__ import annotations

import py_compile
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from distilspark.config import TrustConfig
from distilspark.errors import UserError
from distilspark.tracking.registry import FoundModel, fetch_model, register
from distilspark.tracking.signatures import SIGNATURE
from distilspark.tracking.trust import CHECKSUMS, DIGEST_TAG, check_model, record_digest
from helpers.keys import make_keys
from helpers.processes import Place
from helpers.serving import serving
from helpers.stores import tracking_in

NAME = "a model"
URI = f"models:/{NAME}/1"
ANY, KNOWN = (TrustConfig(trusted_keys=[], require_digest=known) for known in (False, True))
LOADER = "import json\njson.predict = json.dumps\ndef _load_pyfunc(path): return json\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with one version of a model, created once because that takes a second."""
    folder = tmp_path_factory.mktemp("store")
    with tracking_in(folder):
        publish(folder)
        shutil.copytree(package(folder), folder / "kept")
        yield folder


@pytest.fixture
def store(made: Path) -> Iterator[Path]:
    """The store's folder; changes to the model are undone after each test."""
    client, folder = mlflow.MlflowClient(), package(made)
    version = client.get_model_version(NAME, "1")
    yield made
    shutil.rmtree(folder)
    shutil.copytree(made / "kept", folder)
    client.set_model_version_tag(NAME, "1", DIGEST_TAG, version.tags[DIGEST_TAG])
    client.log_text(version.run_id, fetch(made).checksums, CHECKSUMS)


def publish(folder: Path) -> None:
    """Log and register a model with data and code."""
    for name, text in {"data/scorer.json": "{}", "data/model.onnx": "graph", "own_code/loader.py": LOADER}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    paths = {"data_path": str(folder / "data"), "code_paths": [str(folder / "own_code")]}
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(name="model", loader_module="own_code.loader", pip_requirements=[], **paths)
    register(logged.model_uri, NAME, {}, "# Its card", beats_baseline=False)


def fetch(folder: Path, trust: TrustConfig = ANY, uri: str = URI) -> FoundModel:
    scratch = folder / "fetched"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return fetch_model(uri, scratch, trust)


def package(folder: Path) -> Path:
    """Return the folder of the version's files in a store below the folder."""
    (file,) = folder.glob("mlruns/0/models/*/artifacts/MLmodel")
    return file.parent


def test_version_is_tagged_with_the_digest_of_its_package(store: Path, tmp_path: Path) -> None:
    version = mlflow.MlflowClient().get_model_version(NAME, "1")
    found = fetch(tmp_path, KNOWN)
    sums = Path(mlflow.MlflowClient().download_artifacts(version.run_id, CHECKSUMS))
    assert sums.read_text() == found.checksums
    for file in ("MLmodel", "data/data/model.onnx", "code/own_code/loader.py"):
        assert f"  {file}\n" in found.checksums
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", str(sums)], cwd=found.folder, check=True)
    digest = subprocess.run(["sha256sum", str(sums)], check=True, capture_output=True, text=True).stdout.split()[0]
    assert version.tags[DIGEST_TAG] == digest


def test_logged_model_has_the_digest_of_its_registered_version(store: Path, tmp_path: Path) -> None:
    found = fetch(tmp_path, KNOWN)
    logged = f"models:/{found.model_id}"
    assert fetch(tmp_path, KNOWN, logged).checksums == found.checksums
    assert record_digest(logged) == mlflow.MlflowClient().get_model_version(NAME, "1").tags[DIGEST_TAG]


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (
        lambda folder: (folder / "code/own_code/loader.py").write_text("1"),
        "code/own_code/loader.py was changed",
    ),
    "data": (lambda folder: (folder / "data/data/model.onnx").write_text("Graph"), "data/data/model.onnx was changed"),
    "MLmodel": (lambda folder: (folder / "MLmodel").open("a").write("\n"), "MLmodel was changed"),
    "more": (lambda folder: (folder / "code/json.py").write_text("1"), "code/json.py was added"),
    "bytecode": (lambda folder: (folder / "code/json.pyc").write_bytes(b"1"), "code/json.pyc was added"),
    "less": (lambda folder: (folder / "data/data/scorer.json").unlink(), "data/data/scorer.json is missing"),
    "name": (
        lambda folder: (folder / "data/data/model.onnx").rename(folder / "data/data/graph.onnx"),
        "data/data/graph.onnx was added, data/data/model.onnx is missing",
    ),
    "link": (lambda folder: (folder / "data/data/link").symlink_to("/etc/hostname"), "'data/data/link' is a link"),
    "folder": (lambda folder: (folder / "data/more").symlink_to("/etc"), "'data/more' is a link"),
    "line": (lambda folder: (folder / "a\nb").write_text(""), "is a link, no file, or has no printable name"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_package_is_refused_with_the_name_of_the_file(store: Path, tmp_path: Path, change: str) -> None:
    apply, named = CHANGES[change]
    fetch(tmp_path)
    apply(package(store))
    for refuse in (lambda: fetch(tmp_path), lambda: check_model(URI, ANY)):
        with pytest.raises(UserError) as refused:
            refuse()
        assert named in str(refused.value) and URI in str(refused.value) and "\n" not in str(refused.value)


def test_files_added_by_mlflow_and_python_do_not_change_the_digest(store: Path, tmp_path: Path) -> None:
    mlflow.pyfunc.load_model(URI)  # loads from the store's own folder, which is on this disk
    assert (package(store) / "registered_model_meta").is_file()
    py_compile.compile(str(package(store) / "code/own_code/loader.py"))  # as Python does on a module's first import
    assert [*package(store).rglob("*.pyc")]
    found = fetch(tmp_path, KNOWN)
    assert not [*found.folder.rglob("*.pyc")]
    check_model(URI, KNOWN)


@pytest.mark.parametrize("kept", [None, "another text"])
def test_a_changed_package_is_refused_without_its_runs_checksums(store: Path, tmp_path: Path, kept: str | None) -> None:
    version = mlflow.MlflowClient().get_model_version(NAME, "1")
    shutil.rmtree(store / "mlruns/0" / version.run_id)
    if kept:
        mlflow.MlflowClient().log_text(version.run_id, kept, CHECKSUMS)
    fetch(tmp_path)
    (package(store) / "MLmodel").write_text("")
    with pytest.raises(UserError, match=f"its sha256 is [0-9a-f]{{64}} and was {version.tags[DIGEST_TAG]}"):
        fetch(tmp_path)


def test_version_without_a_digest_prints_a_note_or_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.MlflowClient().delete_model_version_tag(NAME, "1", DIGEST_TAG)
    for load in (lambda trust: fetch(tmp_path, trust), lambda trust: check_model(URI, trust)):
        load(ANY)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{URI} has no digest")
        with pytest.raises(UserError, match=r"registry\.require_digest=true"):
            load(KNOWN)


@pytest.mark.parametrize("path", ["../..", "/etc", "data/../../x"])
def test_a_package_that_points_outside_is_refused(store: Path, tmp_path: Path, path: str) -> None:
    for old in ("data: data/data", "code: code"):
        folder = shutil.copytree(package(store), tmp_path / "copy")
        file = folder / "MLmodel"
        file.write_text(file.read_text().replace(old, f"{old.partition(':')[0]}: {path}"))
        with pytest.raises(UserError, match=f"its MLmodel names {path}"):
            fetch(tmp_path, uri=str(folder))
        shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "flavors: {}", "flavors: {python_function: {data: data}}", "\0"])
def test_broken_mlmodel_file_is_refused(store: Path, tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(package(store), tmp_path / "copy"))
    (folder / "MLmodel").write_text(text)
    with pytest.raises(UserError, match=f"^model_uri={folder} ") as refused:
        fetch(tmp_path, uri=str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_digest_is_verified_for_artifacts_behind_a_server(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with tracking_in(tmp_path), serving(place, tmp_path / "server") as (address, _):
        mlflow.set_tracking_uri(address)
        experiment = mlflow.create_experiment("proxied")
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv("MLFLOW_EXPERIMENT_ID", experiment)
            publish(tmp_path)
        fetch(tmp_path, KNOWN)
        check_model(URI, KNOWN)
        (file,) = (tmp_path / "server/artifacts").rglob("loader.py")
        file.write_text("1")
        with pytest.raises(UserError, match=r"code/own_code/loader\.py .*changed"):
            fetch(tmp_path)


def test_version_is_loaded_only_with_a_trusted_key(store: Path, tmp_path: Path) -> None:
    (own, own_public), (_, other_public) = make_keys(tmp_path, "own"), make_keys(tmp_path, "other")
    client, unsigned, signed = mlflow.MlflowClient(), URI, f"models:/{NAME}/2"
    logged = f"models:/{fetch(tmp_path).model_id}"
    register(logged, NAME, {}, "", beats_baseline=False, signing_key=own)
    trusted, untrusted = (
        TrustConfig(trusted_keys=keys, require_digest=False) for keys in ([other_public, own_public], [other_public])
    )
    fetch(tmp_path, trusted, signed)
    check_model(signed, trusted)
    fetch(tmp_path, ANY, signed)
    for uri, trust in ((signed, untrusted), (unsigned, trusted), (logged, trusted), (str(package(store)), trusted)):
        with pytest.raises(UserError, match=r"signed .*registry\.trusted_keys"):
            fetch(tmp_path, trust, uri)
    for tag in (SIGNATURE, DIGEST_TAG):  # another version's signature and digest
        client.set_model_version_tag(NAME, "1", tag, client.get_model_version(NAME, "2").tags[tag])
    with pytest.raises(UserError, match=f"{unsigned} .*signed"):
        fetch(tmp_path, trusted, unsigned)
    (package(store) / "MLmodel").write_text("")
    with pytest.raises(UserError, match="MLmodel was changed"):
        fetch(tmp_path, trusted, signed)
