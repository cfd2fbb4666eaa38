"""Train in a barrier stage of Spark: every task is a worker that has a shard of the rows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyspark import BarrierTaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import distilspark
from distilspark.config import TrainConfig
from distilspark.console import log_to_stderr, logger, output_to
from distilspark.errors import UserError, WorkError
from distilspark.features.encoding import Encoded
from distilspark.model.checkpoints import fetch
from distilspark.spark import IDLE_TIMEOUT
from distilspark.training.batches import Examples
from distilspark.training.checkpoint.state import CheckpointOptions
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.training.distributed.collectives import start_collectives
from distilspark.training.distributed.shards import Shard
from distilspark.training.distributed.strategy import CollectiveWorkers
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.targets import TargetTransform
from distilspark.worker_watch import kill_if_stopped

POLL_SECONDS = 1.0  # between two reads of the workers' checkpoints
FORWARDED = ("DISTILSPARK_", "HF_")  # prefixes of the driver's environment variables that workers get
PYTHON_ERROR = re.compile(r"^((?!java|org|py4j)[\w.]*(?:Error|Exception))(: .+)$", re.MULTILINE)
JAVA_ERROR = re.compile(r"Exception: (.+)")
PRETRAINED = "pretrained"  # in the shared folder: the pretrained checkpoint
COLUMNS = ("id", "split", "label", "token_ids", "tokens", "unknown_tokens")  # that workers read


@dataclass(frozen=True)
class WorkerSettings:
    """The part of a worker's input that is the same for all workers; Spark pickles it."""

    config: TrainConfig
    target: TargetTransform
    checkpoint_folder: str  # that all workers and the driver share
    run_id: str
    data_digest: str
    environment: dict[str, str]

    def find_checkpoints(self) -> CheckpointOptions:
        """Return the options of the shared checkpoint folder."""
        every = str(self.config.training.checkpoint_every)
        return CheckpointOptions(CheckpointFolder(Path(self.checkpoint_folder)), every, self.run_id, self.data_digest)


def make_worker_settings(
    config: TrainConfig, target: TargetTransform, checkpoints: CheckpointOptions
) -> WorkerSettings:
    """Collect the settings, with this process's environment."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)}
    folder = str(checkpoints.folder.path)
    return WorkerSettings(config, target, folder, checkpoints.run_id, checkpoints.data_digest, environment)


def run_training_stage(rows: DataFrame, settings: WorkerSettings, poll: Callable[[], None]) -> None:
    """Train on the rows of the splits train and validation; the last checkpoint holds the result.

    `rows` has the columns `COLUMNS`. The hash of a row's id decides which worker gets it; validation goes to the chief.
    `poll` is called every `POLL_SECONDS`, and at the end. A worker that dies, or stays stopped for longer than
    `spark.worker_timeout`, fails the stage, and Spark starts the stage again, up to
    `spark.stage.maxConsecutiveAttempts` times.

    Raises:
        WorkError: the last attempt failed; the message has the worker's error.

    """
    Path(settings.checkpoint_folder).mkdir(parents=True, exist_ok=True)
    workers = settings.config.training.workers
    shard = F.when(F.col("split") == "train", F.pmod(F.xxhash64("id"), F.lit(workers))).otherwise(0).cast("int")
    sharded = rows.select(*COLUMNS, shard.alias("shard")).repartitionById(workers, "shard")
    rows.sparkSession.conf.set(IDLE_TIMEOUT, 0)  # a worker gives Spark no answer before it has trained
    with _source_archive() as archive:
        rows.sparkSession.sparkContext.addPyFile(archive)  # tasks that start later have it
        trained = sharded.mapInArrow(lambda batches: _run_worker(settings, batches), "rank int", barrier=True)
        # Spark only repeats a barrier stage that comes before a shuffle
        _run_in_thread(lambda: trained.repartition(1).collect(), poll)


@contextmanager
def _source_archive() -> Iterator[str]:
    """Zip this package for workers that do not have it; they fetch the file when they start."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(distilspark.__file__).parent
        yield shutil.make_archive(f"{scratch}/sources", "zip", package.parent, package.name)


def _run_in_thread(stage: Callable[[], Any], poll: Callable[[], None]) -> None:
    """Run the stage in a thread, so that this one can poll, and be interrupted."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            stage()
        except Exception as error:
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    running = True
    while running:
        thread.join(POLL_SECONDS)
        running = thread.is_alive()
        poll()
    if failures:
        raise WorkError(f"the training failed on its workers: {find_worker_error(failures[0])}") from failures[0]


def find_worker_error(error: Exception) -> str:
    r"""Extract a worker's Python error from Spark's error; without one, Spark's first reason.

    >>> find_worker_error(Exception(": org.apache.spark.SparkException: Lost\ndistilspark.errors.WorkError: no rows"))
    'WorkError: no rows'
    >>> find_worker_error(Exception("calling o1\n: org.apache.spark.SparkException: Aborted: executor lost\n\tat x"))
    'Aborted: executor lost'
    """
    python = [name.rpartition(".")[2] + text for name, text in PYTHON_ERROR.findall(str(error))]
    java = JAVA_ERROR.findall(str(error))
    return [str(error).partition("\n")[0], *java[:1], *python][-1][:500]


def _run_worker(settings: WorkerSettings, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run a Spark task: train on its rows, with its own log file."""
    context = BarrierTaskContext.get()
    rank, folder = context.partitionId(), Path(settings.checkpoint_folder)
    if not folder.is_dir():
        raise UserError(
            f"training.checkpoints={folder.parent} does not exist on worker {rank} ({socket.gethostname()}): "
            "set it to a folder that the driver and all workers share"
        )
    kill_if_stopped(settings.config.spark.worker_timeout)
    os.environ.update(settings.environment)
    with output_to(folder / f"worker-{rank}.log"):
        log_to_stderr()
        logger.info("worker %d of %d: process %d", rank, settings.config.training.workers, os.getpid())
        _train_shard(settings, context, pd.concat([batch.to_pandas() for batch in batches] or [_no_rows()]))
    yield pa.RecordBatch.from_pydict({"rank": pa.array([rank], pa.int32())})


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in COLUMNS})


def _train_shard(settings: WorkerSettings, context: BarrierTaskContext, rows: pd.DataFrame) -> None:
    config = settings.config
    train, validation = (_examples(rows[rows["split"] == name]) for name in ("train", "validation"))
    shard, addresses = _exchange_addresses(context, len(train.labels))
    if 0 in shard.sizes:
        raise UserError(f"training.workers={config.training.workers} is too many for {sum(shard.sizes)} rows")
    collectives = start_collectives(shard.rank, addresses, config.spark.executor_cores)
    checkpoints = _agree_on_checkpoint(settings, context)
    shared = Path(settings.checkpoint_folder) / PRETRAINED
    fit(
        build_initial_network(config, shared if config.training.pretraining.rows else fetch(config.model)),
        TrainingData(train, validation, settings.target),
        config,
        lambda epoch, metrics: None,  # the driver reads them from the checkpoints
        checkpoints,
        CollectiveWorkers(shard, context.allGather),
    )
    context.barrier()  # a worker that ends takes the collectives' runtime with it, which the others may still need
    del collectives


def _examples(rows: pd.DataFrame) -> Examples:
    """Return rows sorted by id, so that batches do not depend on Spark's partitions."""
    ordered = rows.sort_values("id")
    return Examples(Encoded.from_frame(ordered), ordered["label"].to_numpy(dtype=float))


def _exchange_addresses(context: BarrierTaskContext, size: int) -> tuple[Shard, tuple[str, ...]]:
    """Choose a port; return this worker's shard and all workers' addresses."""
    rank = context.partitionId()
    host = context.getTaskInfos()[rank].address.partition(":")[0]
    messages = context.allGather(f"{host}:{find_free_port()} {size}")
    addresses, sizes = zip(*(message.split() for message in messages), strict=True)
    return Shard(rank, tuple(map(int, sizes))), addresses


def _agree_on_checkpoint(settings: WorkerSettings, context: BarrierTaskContext) -> CheckpointOptions:
    """Find the latest checkpoint; the chief looks first, since it deletes damaged ones.

    Raises:
        UserError: the workers see different checkpoints.

    """
    is_chief = context.partitionId() == 0
    if not is_chief:
        context.barrier()
    checkpoints = settings.find_checkpoints()
    if is_chief:
        context.barrier()
    latest = checkpoints.folder.latest
    names = context.allGather(latest.file.name if latest else "none")
    if len(set(names)) > 1:
        folder = settings.checkpoint_folder
        raise UserError(f"training.checkpoints: the workers see different folders at {folder}: share one")
    return checkpoints


def find_free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def worker_logs(folder: Path) -> Sequence[Path]:
    """Return the workers' log files, in the order of their ranks."""
    return sorted(folder.glob("worker-*.log"))
