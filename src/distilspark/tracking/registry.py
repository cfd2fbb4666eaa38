"""The registered model and its aliases."""

from __future__ import annotations

from collections.abc import Mapping

import mlflow
from mlflow.exceptions import MlflowException

CHAMPION, CHALLENGER = "champion", "challenger"


def register(
    model_uri: str, name: str, tags: Mapping[str, str], *, beats_baseline: bool
) -> tuple[str, tuple[str, ...]]:
    """Register a logged model as `@challenger`; as `@champion` too where there is none yet and it beats the baseline.

    Returns:
        the version and the aliases that it got.

    """
    client = mlflow.MlflowClient()
    version = mlflow.register_model(model_uri, name, tags=dict(tags)).version
    aliases = [CHALLENGER]
    if beats_baseline and not _has_champion(client, name):
        aliases.append(CHAMPION)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version)
    return str(version), tuple(aliases)


def _has_champion(client: mlflow.MlflowClient, name: str) -> bool:
    try:
        client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return False
    return True
