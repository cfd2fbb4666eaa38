"""A training on Spark's workers: a barrier stage whose tasks have a shard each and take every step together."""

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

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyspark import BarrierTaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from tokenizers import Tokenizer

import distilspark
from distilspark.config import TrainConfig
from distilspark.console import log_to_stderr, logger, output_to
from distilspark.errors import UserError, WorkError
from distilspark.features.encoding import Encoded, encode
from distilspark.model.checkpoints import fetch
from distilspark.training.checkpointing import CheckpointFolder
from distilspark.training.fit import Aim, first_network, fit
from distilspark.training.resuming import Checkpoints
from distilspark.training.team import Team, join

POLL = 1.0  # seconds between two looks for news from the workers
FORWARDED = ("DISTILSPARK_", "HF_")  # what of the driver's environment the workers get
PYTHON_ERROR = re.compile(r"^((?!java|org|py4j)[\w.]*(?:Error|Exception))(: .+)$", re.MULTILINE)
JAVA_ERROR = re.compile(r"Exception: (.+)")


@dataclass(frozen=True)
class Job:
    """What every worker needs beside its rows."""

    config: TrainConfig
    tokenizer: str  # JSON
    aim: Aim
    folder: str  # of the checkpoints, which all workers and the driver see
    run_id: str
    data: str  # a digest of the rows
    environment: dict[str, str]

    @property
    def checkpoints(self) -> Checkpoints:
        """As they are now."""
        every = str(self.config.training.checkpoint_every)
        return Checkpoints(CheckpointFolder(Path(self.folder)), every, self.run_id, self.data)


def make_job(config: TrainConfig, tokenizer: Tokenizer, aim: Aim, kept: Checkpoints) -> Job:
    """The job of this process's training."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)}
    folder = str(kept.folder.path)
    return Job(config, tokenizer.to_str(), aim, folder, kept.run_id, kept.data, environment)


def train_on_workers(rows: DataFrame, job: Job, follow: Callable[[], None]) -> None:
    """Train on the rows of the splits train and validation; the last checkpoint then has all that came out.

    `rows` has the columns `id`, `split`, `label`, `text1` and for pairs `text2`. Each row of train goes to the worker
    that its id's hash says, all of validation to the first. `follow` is called every now and then, and at the end. A
    worker that dies ends the stage, and Spark starts it again, `spark.stage.maxConsecutiveAttempts` times.

    Raises:
        WorkError: it failed for good; says why.

    """
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    workers = job.config.training.workers
    shard = F.when(F.col("split") == "train", F.pmod(F.xxhash64("id"), F.lit(workers))).otherwise(0).cast("int")
    texts = [name for name in ("text1", "text2") if name in rows.columns]
    sharded = rows.select("id", "split", "label", *texts, shard.alias("shard")).repartitionById(workers, "shard")
    with _sources() as archive:
        rows.sparkSession.sparkContext.addPyFile(archive)  # what comes after it has it
        trained = sharded.mapInArrow(lambda batches: _task(job, batches), "rank int", barrier=True)
        _run(lambda: trained.repartition(1).collect(), follow)  # a barrier stage is only tried again before a shuffle


@contextmanager
def _sources() -> Iterator[str]:
    """An archive of this package, for workers that do not have it; they fetch it when they start."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(distilspark.__file__).parent
        yield shutil.make_archive(f"{scratch}/sources", "zip", package.parent, package.name)


def _run(stage: Callable[[], Any], follow: Callable[[], None]) -> None:
    """Run the stage in a thread, so that this one can follow it, and be interrupted."""
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
        thread.join(POLL)
        running = thread.is_alive()
        follow()
    if failures:
        raise WorkError(f"the training failed on its workers: {reason_of(failures[0])}") from failures[0]


def reason_of(error: Exception) -> str:
    r"""What a worker said, out of what Spark says about it; else what Spark says first.

    >>> reason_of(Exception(": org.apache.spark.SparkException: Job aborted\ndistilspark.errors.WorkError: no rows"))
    'WorkError: no rows'
    >>> reason_of(Exception("calling o1\n: org.apache.spark.SparkException: Job aborted: executor lost\n\tat x"))
    'Job aborted: executor lost'
    """
    python = [name.rpartition(".")[2] + text for name, text in PYTHON_ERROR.findall(str(error))]
    java = JAVA_ERROR.findall(str(error))
    return [str(error).partition("\n")[0], *java[:1], *python][-1][:500]


def _task(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a worker does."""
    context = BarrierTaskContext.get()
    rank, folder = context.partitionId(), Path(job.folder)
    if not folder.is_dir():
        raise UserError(
            f"training.checkpoints={folder.parent} is not there on worker {rank} ({socket.gethostname()}): "
            "set it to a folder that the driver and all workers share"
        )
    os.environ.update(job.environment)
    with output_to(folder / f"worker-{rank}.log"):
        log_to_stderr()
        logger.info("worker %d of %d: process %d", rank, job.config.training.workers, os.getpid())
        _train(job, context, rank, pd.concat([batch.to_pandas() for batch in batches] or [_no_rows()]))
    yield pa.RecordBatch.from_pydict({"rank": pa.array([rank], pa.int32())})


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in ("id", "split", "label", "text1", "text2")})


def _train(job: Job, context: BarrierTaskContext, rank: int, rows: pd.DataFrame) -> None:
    config = job.config
    train, validation = (
        _encoded(job, rows[rows["split"] == name].sort_values("id")) for name in ("train", "validation")
    )
    host = context.getTaskInfos()[rank].address.partition(":")[0]
    told = context.allGather(f"{host}:{free_port()} {len(train[1])}")
    addresses, sizes = zip(*(each.split() for each in told), strict=True)
    if "0" in sizes:
        raise UserError(f"training.workers={config.training.workers} is too many for {sum(map(int, sizes))} rows")
    strategy = join(rank, addresses, config.spark.executor_cores)
    checkpoints = _same_checkpoint(job, context, rank)
    team = Team(rank, [int(size) for size in sizes], context.allGather)
    network = first_network(config, fetch(config.model))
    fit(
        network,
        train,
        validation,
        config.task,
        config.training,
        config.evaluation.batch_tokens,
        lambda epoch, metrics: None,  # the driver reads them in the checkpoints
        checkpoints,
        team,
        job.aim,
    )
    context.barrier()  # nobody leaves, and takes the collectives' runtime along, before all are done
    del strategy


def _encoded(job: Job, rows: pd.DataFrame) -> tuple[Encoded, np.ndarray[Any, Any]]:
    tokenizer = Tokenizer.from_str(job.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pairs = rows["text2"].tolist() if job.config.task.is_pair else None
    encoded = encode(tokenizer, rows["text1"].tolist(), pairs, job.config.model.max_length)
    return encoded, rows["label"].to_numpy(dtype=float)


def _same_checkpoint(job: Job, context: BarrierTaskContext, rank: int) -> Checkpoints:
    """The newest that is whole; the first worker looks first, and drops what is damaged."""
    if rank:
        context.barrier()
    checkpoints = job.checkpoints
    if not rank:
        context.barrier()
    found = checkpoints.folder.found
    names = context.allGather(found.file.name if found else "none")
    if len(set(names)) > 1:
        raise UserError(f"training.checkpoints: the workers see different folders at {job.folder}: share one")
    return checkpoints


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def worker_logs(folder: Path) -> Sequence[Path]:
    """What the workers wrote, in the order of their ranks."""
    return sorted(folder.glob("worker-*.log"))
