"""The Hugging Face hub: a check that it answers, and its files through huggingface_hub's cache.

huggingface_hub reads its environment once, when it is imported; here `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_HUB_CACHE`
are read when they are needed. Its retries, and a name server that hangs, can take minutes, so we probe the hub first.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils._http import get_session
from huggingface_hub.utils.tqdm import tqdm

from distilspark.console import progress_terminal
from distilspark.errors import UserError

RepositoryType = Literal["model", "dataset"]
PROBE_SECONDS = 4.0


class TerminalBar(tqdm):
    """huggingface_hub's progress bar on the terminal, since standard error goes to the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        file = progress_terminal()
        disable = kwargs.get("disable") or file is None
        super().__init__(*args, **{**kwargs, "file": file, "disable": disable, "leave": False})


def hub_endpoint() -> str:
    """Return the hub's address: `HF_ENDPOINT`, else huggingface_hub's own default."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def hub_cache() -> Path:
    """Return the folder of huggingface_hub's cache: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else its own default."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Return whether the user forbids the network: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`."""
    chosen = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return chosen.upper() in {"1", "ON", "YES", "TRUE"}


def hub_answers() -> bool:
    """Return whether the hub answers within four seconds, including name resolution; cached by endpoint."""
    return not is_offline() and _answers(hub_endpoint())


@cache
def _answers(endpoint: str) -> bool:
    answers: list[bool] = []

    def probe() -> None:
        try:
            status = get_session().head(endpoint, timeout=PROBE_SECONDS).status_code
        except Exception:  # any error means that the hub does not answer
            return
        answers.append(status < 500)

    thread = Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answers == [True]


def cached_file(repository: str, file: str, revision: str, kind: RepositoryType = "model") -> Path | None:
    """Return the file in huggingface_hub's cache, or None; the network is not used."""
    found = try_to_load_from_cache(repository, file, cache_dir=hub_cache(), revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def fetch_file(repository: str, file: str, revision: str, kind: RepositoryType = "model") -> Path:
    """Return the file from the cache, else from the hub.

    Raises:
        UserError: not cached, and the hub does not answer or lacks it; the message names file, hub and cause.

    """
    if cached := cached_file(repository, file, revision, kind):
        return cached
    if not hub_answers():
        why = "HF_HUB_OFFLINE forbids the network" if is_offline() else f"{hub_endpoint()} does not answer"
        raise UserError(f"{repository}/{file} is not in the cache {hub_cache()} and {why}")
    try:
        return Path(
            hf_hub_download(
                repository,
                file,
                revision=revision,
                repo_type=kind,
                cache_dir=hub_cache(),
                endpoint=hub_endpoint(),
                tqdm_class=TerminalBar if kind == "model" else None,  # data has a spinner
            )
        )
    except Exception as error:  # huggingface_hub, its HTTP client and the disk raise types of their own
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"cannot fetch {repository}/{file} @ {revision} from {hub_endpoint()}: {cause[0]}") from error
