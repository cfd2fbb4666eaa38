"""The chain of trust from training to loading: the digest of a logged model, and the check of a downloaded one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from distilspark.config import TrustConfig
from distilspark.console import print_line
from distilspark.errors import UserError
from distilspark.tracking.checksums import ChangedPackageError, digest_of, files_of, find_changes, read_checksums
from distilspark.tracking.signatures import SIGNATURE, is_signed
from distilspark.tracking.store import first_line

DIGEST_TAG = "package.sha256"  # a tag of logged models and of registered versions
CHECKSUMS = "package/SHA256SUMS"  # among the artifacts of the run that logged the model


@dataclass(frozen=True)
class Origin:
    """A model's record in the store."""

    uri: str  # names a version if `model_uri` names an alias
    name: str | None = None  # of the registered model; None for a run's or a folder's
    version: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def find_origin(uri: str) -> Origin:
    """Look up a model in the store; raise `MlflowException` if a URI `models:/...` names none."""
    if not uri.startswith("models:/"):
        return Origin(uri)
    client = mlflow.MlflowClient()
    found = get_model_name_and_version(client, uri)
    if len(found) == 1:
        logged = client.get_logged_model(found[0])
        return Origin(uri, run_id=logged.source_run_id, tags=logged.tags)
    version = client.get_model_version(*found)
    exact = f"models:/{version.name}/{version.version}"
    return Origin(exact, version.name, str(version.version), version.run_id, version.tags)


def record_digest(model_uri: str) -> str:
    """Return the digest of a logged model; the first call also tags the model with it and logs the checksums."""
    logged = find_origin(model_uri)
    if DIGEST_TAG in logged.tags:
        return logged.tags[DIGEST_TAG]
    with TemporaryDirectory() as scratch:
        checksums = read_checksums(download(model_uri, Path(scratch)))
    client, digest = mlflow.MlflowClient(), digest_of(checksums)
    if logged.run_id:
        client.log_text(logged.run_id, checksums, CHECKSUMS)
    client.set_logged_model_tags(get_model_name_and_version(client, model_uri)[0], {DIGEST_TAG: digest})
    return digest


def download(uri: str, folder: Path) -> Path:
    """Fetch a model's files into an empty folder, without bytecode from earlier loads.

    Raises:
        ChangedPackageError: its own folder holds links, which a copy would follow.

    """
    source = ModelsArtifactRepository.get_underlying_uri(uri) if uri.startswith("models:/") else uri
    if is_local_uri(source):
        files_of(Path(local_file_uri_to_path(source)))
    local = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    for cache in [*local.rglob("__pycache__")]:
        shutil.rmtree(cache)
    return local


def check_model(uri: str, trust: TrustConfig) -> None:
    """Check the package of a model that is not loaded; fetch it only if it has a digest.

    Raises:
        UserError: as `check_digest`, or it cannot be fetched.

    """
    try:
        origin = find_origin(uri)
        with TemporaryDirectory() as scratch:
            checksums = read_checksums(download(origin.uri, Path(scratch))) if DIGEST_TAG in origin.tags else ""
    except (MlflowException, OSError, ChangedPackageError) as error:
        raise UserError(f"{uri} cannot be checked: {first_line(error)}. Choose another model") from error
    check_digest(origin, checksums, trust)


def check_digest(origin: Origin, checksums: str, trust: TrustConfig) -> None:
    """Check that a downloaded package is the one that was registered, and who registered it.

    Raises:
        UserError: it is another package; it has no digest though `registry.require_digest` is true; none of
            `registry.trusted_keys` signed it.

    """
    expected = origin.tags.get(DIGEST_TAG)
    if trust.trusted_keys and not _is_signed(origin, trust.trusted_keys):
        raise UserError(
            f"{origin.uri} is not signed by any of registry.trusted_keys={trust.trusted_keys}. None of its code was "
            "run. Choose a version that was registered with registry.signing_key, or trust its key"
        )
    if expected is None:
        lacking = f"{origin.uri} has no digest (tag {DIGEST_TAG}): what is loaded may not be what was trained"
        if trust.require_digest:
            raise UserError(
                f"{lacking}, and registry.require_digest=true refuses it. Choose a version that `train` registered"
            )
        print_line(lacking)
    elif expected != digest_of(checksums):
        raise UserError(
            f"{origin.uri} is not the package that was registered: {_changes(origin, expected, checksums)}. None of "
            "its code was run. Restore its files, or choose another version"
        )


def _is_signed(origin: Origin, keys: Sequence[str]) -> bool:
    digest, signature = origin.tags.get(DIGEST_TAG, ""), origin.tags.get(SIGNATURE, "")
    return is_signed(keys, signature, str(origin.name), str(origin.version), digest)


def _changes(origin: Origin, expected: str, checksums: str) -> str:
    """Describe the files that differ from the checksums in the model's run, if these match the expected digest."""
    try:
        kept = mlflow.artifacts.load_text(f"runs:/{origin.run_id}/{CHECKSUMS}")
    except (MlflowException, OSError):
        kept = ""
    if digest_of(kept) != expected:
        return f"its sha256 is {digest_of(checksums)} and was {expected}"
    return find_changes(kept, checksums)
