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
from mlflow.store.artifact.utils.models import get_model_name_and_version

from distilspark.errors import UserError
from distilspark.metrics import Metric
from distilspark.tracking.aliases import CHALLENGER, CHAMPION, only_mover, read_aliases
from distilspark.tracking.model_card import CARD, with_verdict
from distilspark.tracking.results import beats_baseline
from distilspark.tracking.runs import logged_model
from distilspark.tracking.store import first_line

VERDICT, ROLLED_BACK = "gate.verdict", "rolled back"


@dataclass(frozen=True)
class FoundModel:
    """A downloaded model: an alias that moves later does not change it."""

    uri: str
    name: str | None  # of the registered model; None for a run's or a folder's
    version: str  # of the registered model; else the logged model's id, else the URI
    run_id: str | None
    model_id: str | None
    folder: Path  # MLmodel and all that belongs to it
    data: Path  # what the model's loader gets


def fetch_model(uri: str, folder: Path) -> FoundModel:
    """Download a model into an empty folder, whatever kind of URI MLflow knows it by.

    Raises:
        UserError: there is no such model; names the key, the versions that there are, and the way out.

    """
    try:
        name, version = _registered(uri)
        exact = f"models:/{name}/{version}" if name else uri
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=exact, dst_path=str(folder)))
        described = Model.load(str(local))
        data = local / described.flavors["python_function"]["data"]
    except (MlflowException, OSError, KeyError) as error:
        raise UserError(
            f"model_uri={uri} is no model that can be loaded: {first_line(error)}. {_way_out(uri)}"
        ) from error
    known_as = version or described.model_id or uri
    return FoundModel(exact, name, known_as, described.run_id, described.model_id, local, data)


def link_model(model: FoundModel) -> None:
    """Tag the active run with the model, and have MLflow show it among the run's inputs."""
    tags = {"uri": model.uri, "name": model.name, "version": model.version, "run_id": model.run_id}
    mlflow.set_tags({f"model.{key}": value for key, value in tags.items() if value})
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


def _registered(uri: str) -> tuple[str | None, str | None]:
    """Return name and version of a registered model; None and None for any other URI."""
    if not uri.startswith("models:/"):
        return None, None
    client = mlflow.MlflowClient()
    found = get_model_name_and_version(client, uri)
    if len(found) == 1:
        return None, None
    client.get_model_version(*found)  # raises where there is none
    return str(found[0]), str(found[1])


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


def register_run(run_id: str, name: str, metric: Metric) -> tuple[str, tuple[str, ...]]:
    """Register the model that a training logged, with its card and tags; returns what `register` returns.

    `metric` is the task's, which the baseline is to be beaten in.
    """
    run = mlflow.get_run(run_id)
    card = mlflow.artifacts.load_text(f"runs:/{run_id}/{CARD}")
    beats = beats_baseline(run.data.metrics, metric)
    return register(logged_model(run), name, version_tags(run, metric), card, beats_baseline=beats)


def version_tags(run: Run, metric: Metric) -> dict[str, str]:
    """Return the tags that versions are filtered by: data, checkpoint, precision, and the metric with its interval."""
    kept = {key: value for key, value in run.data.tags.items() if key.startswith(("data.", "model."))}
    names = (metric.name, f"{metric.name}_low", f"{metric.name}_high")
    values = {f"dev.{name}": run.data.metrics[f"dev/{name}"] for name in names}
    return kept | {name: f"{value:.4f}" for name, value in values.items()}


def register(
    model_uri: str, name: str, tags: Mapping[str, str], card: str, *, beats_baseline: bool
) -> tuple[str, tuple[str, ...]]:
    """Register a logged model as `@challenger`; as `@champion` too where there is none yet and it beats the baseline.

    Returns:
        the version and the aliases that it got.

    """
    client = mlflow.MlflowClient()
    registered = mlflow.register_model(model_uri, name, tags=dict(tags))
    version = str(registered.version)
    client.update_model_version(name, version, description=card)
    with only_mover(name):
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
    """Write the gate's verdict to a version's tags `gate.*` and to its description, in place of earlier ones."""
    client = mlflow.MlflowClient()
    # numbers in one tag: those of an earlier verdict would stay otherwise, and not everybody may delete tags
    findings = {"verdict": verdict, "reason": reason, "run_id": run_id, "numbers": json.dumps(numbers)}
    for key, value in findings.items():
        client.set_model_version_tag(name, version, f"gate.{key}", value)
    card = client.get_model_version(name, version).description or ""
    client.update_model_version(name, version, description=with_verdict(card, f"{verdict}: {reason}."))


def check_not_rolled_back(name: str, version: str) -> None:
    """Raise `UserError` where the version was rolled back: evidence from the same rows would only promote it again."""
    if mlflow.MlflowClient().get_model_version(name, version).tags.get(VERDICT) == ROLLED_BACK:
        raise UserError(
            f"version {version} of {name} was rolled back. Train another challenger; to try this one again, remove its "
            f"tag {VERDICT}"
        )
