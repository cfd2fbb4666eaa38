"""The registered model and its aliases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModelInput, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from yaml import YAMLError

from distilspark.config import TrustConfig, flatten
from distilspark.errors import UserError
from distilspark.metrics import Metric
from distilspark.tracking.aliases import CHALLENGER, CHAMPION, lock_aliases, read_aliases
from distilspark.tracking.checksums import ChangedPackageError, read_checksums
from distilspark.tracking.model_card import CARD, with_verdict
from distilspark.tracking.results import beats_baseline
from distilspark.tracking.runs import logged_model
from distilspark.tracking.signatures import SIGNATURE, sign
from distilspark.tracking.store import first_line
from distilspark.tracking.trust import DIGEST_TAG, check_digest, download, find_origin, record_digest

VERDICT, ROLLED_BACK = "gate.verdict", "rolled back"


@dataclass(frozen=True)
class FoundModel:
    """A downloaded model, which does not change when an alias moves."""

    uri: str
    name: str | None  # of the registered model; None for a run's or a folder's
    version: str  # of the registered model; else the logged model's id, else the URI
    run_id: str | None
    model_id: str | None
    folder: Path  # MLmodel and all other files
    data: Path  # passed to the model's loader
    loader: str  # the module that MLflow imports to load it
    checksums: str  # of all its files, as `read_checksums`

    @property
    def identity(self) -> dict[str, str | None]:
        """The model's names in the store."""
        names = ("uri", "name", "version", "run_id", "model_id")
        return {name: getattr(self, name) for name in names}


def fetch_model(uri: str, folder: Path, trust: TrustConfig) -> FoundModel:
    """Download a model by any kind of MLflow URI into an empty folder; none of its code runs.

    Raises:
        UserError: the model does not exist (the message names the key, the existing versions and a remedy), is not the
            one that was registered, or points outside its own folder.

    """
    try:
        origin = find_origin(uri)
        local = download(origin.uri, folder)
        checksums = read_checksums(local)
    except (MlflowException, OSError, ChangedPackageError) as error:
        raise _unloadable(uri, error) from error
    check_digest(origin, checksums, trust)
    try:
        described = Model.load(str(local))
        flavor = described.flavors["python_function"]
        data, loader = local / flavor["data"], flavor["loader_module"]
    except (MlflowException, OSError, YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise _unloadable(uri, error) from error
    for value in flatten({"python_function": flavor, "example": described.saved_input_example_info or {}}).values():
        if not (local / str(value)).resolve().is_relative_to(local.resolve()):
            raise UserError(f"model_uri={uri} points outside its own folder: its MLmodel names {value}. Choose another")
    known_as = origin.version or described.model_id or uri
    run_id, model_id = described.run_id, described.model_id
    return FoundModel(origin.uri, origin.name, known_as, run_id, model_id, local, data, loader, checksums)


def _unloadable(uri: str, error: Exception) -> UserError:
    return UserError(f"model_uri={uri} is no model that can be loaded: {first_line(error)}. {_way_out(uri)}")


def link_model(model: FoundModel) -> None:
    """Tag the active run with the model, and link it as an input."""
    tags = model.identity | {"model_id": None}
    mlflow.set_tags({f"model.{key}": value for key, value in tags.items() if value})
    link_input(model)


def link_input(model: FoundModel) -> None:
    """Log the model as an input of the active run."""
    run = mlflow.active_run()
    if run and model.model_id and _is_logged(model.model_id):
        # not mlflow.log_inputs, which takes models on Databricks only
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=[LoggedModelInput(model.model_id)])


def _is_logged(model_id: str) -> bool:
    """Return whether this store knows the model: a folder may come from another one."""
    try:
        mlflow.get_logged_model(model_id)
    except MlflowException:
        return False
    return True


def _way_out(uri: str) -> str:
    advice = "Train one (`python -m distilspark train task=TASK`), or set model_uri"
    if not uri.startswith("models:/"):
        return advice
    name = uri.removeprefix("models:/").partition("/")[0].rpartition("@")[0] or uri.split("/")[1]
    client = mlflow.MlflowClient()
    versions = [each.version for each in client.search_model_versions(max_results=1000) if each.name == name]
    if not versions:
        return f"No model {name} is registered. {advice}"
    aliases = [f"@{alias} is {version}" for alias, version in client.get_registered_model(name).aliases.items()]
    known = ", ".join([*map(str, sorted(versions, key=int)[-10:]), *aliases])
    return f"Registered versions of {name}: {known}. Set model_uri=models:/{name}/VERSION"


def register_run(run_id: str, name: str, metric: Metric, signing_key: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Register the model that a training logged, with its card and tags; return as `register`.

    `metric` is the task's, in which the model is compared with the baseline.
    """
    run = mlflow.get_run(run_id)
    card = mlflow.artifacts.load_text(f"runs:/{run_id}/{CARD}")
    beats = beats_baseline(run.data.metrics, metric)
    tags = version_tags(run, metric)
    return register(logged_model(run), name, tags, card, beats_baseline=beats, signing_key=signing_key)


def version_tags(run: Run, metric: Metric) -> dict[str, str]:
    """Return the tags that versions are filtered by: data, checkpoint, precision, and the metric with its interval."""
    kept = {key: value for key, value in run.data.tags.items() if key.startswith(("data.", "model."))}
    names = (metric.name, f"{metric.name}_low", f"{metric.name}_high")
    values = {f"dev.{name}": run.data.metrics[f"dev/{name}"] for name in names}
    return kept | {name: f"{value:.4f}" for name, value in values.items()}


def register(
    model_uri: str,
    name: str,
    tags: Mapping[str, str],
    card: str,
    *,
    beats_baseline: bool,
    signing_key: str | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Register a logged model as `@challenger`; also as `@champion` if there is none yet and it beats the baseline.

    The version is tagged with its package's digest, and with a signature if there is a key (a file's path).

    Returns:
        the version and the aliases that it got.

    """
    client = mlflow.MlflowClient()
    digest = record_digest(model_uri)
    registered = mlflow.register_model(model_uri, name, tags={**tags, DIGEST_TAG: digest})
    version = str(registered.version)
    if signing_key:
        client.set_model_version_tag(name, version, SIGNATURE, sign(signing_key, name, version, digest))
    client.update_model_version(name, version, description=card)
    with lock_aliases(name):
        aliases = [CHALLENGER]
        if beats_baseline and CHAMPION not in read_aliases(name):
            aliases.append(CHAMPION)
        for alias in aliases:
            client.set_registered_model_alias(name, alias, version)
    if CHAMPION in aliases:
        record_verdict(name, version, "promoted", "the first that beats the baseline", str(registered.run_id), {})
    return version, tuple(aliases)


def record_verdict(
    name: str, version: str, verdict: str, reason: str, run_id: str, numbers: Mapping[str, float]
) -> None:
    """Write the gate's verdict to a version's tags `gate.*` and to its description, replacing earlier ones."""
    client = mlflow.MlflowClient()
    # all numbers in one tag: separate tags of an earlier verdict would stay, and not everyone may delete tags
    findings = {"verdict": verdict, "reason": reason, "run_id": run_id, "numbers": json.dumps(numbers)}
    for key, value in findings.items():
        client.set_model_version_tag(name, version, f"gate.{key}", value)
    card = client.get_model_version(name, version).description or ""
    client.update_model_version(name, version, description=with_verdict(card, f"{verdict}: {reason}."))


def check_not_rolled_back(name: str, version: str) -> None:
    """Raise `UserError` if the version was rolled back: evidence from the same rows would only promote it again."""
    if mlflow.MlflowClient().get_model_version(name, version).tags.get(VERDICT) == ROLLED_BACK:
        raise UserError(
            f"version {version} of {name} was rolled back. Train another challenger; to try this one again, remove its "
            f"tag {VERDICT}"
        )
