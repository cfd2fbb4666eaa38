"""`server`: serve the tracking store to a team."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from distilspark.config import ServerConfig, from_hydra


def run(composed: DictConfig, log: Path) -> None:
    """Serve on a composed `conf/server.yaml`, until it is stopped."""
    config = from_hydra(ServerConfig, composed)
    from distilspark.tracking.server import serve  # takes seconds to import: after the config is found good

    serve(config)
