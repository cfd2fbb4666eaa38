"""Threads and memory of a scoring process, and an ONNX session within these limits.

Only this module chooses how a graph is run: another processor or a GPU would be chosen here.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import onnxruntime
import psutil

PROVIDERS = ("CPUExecutionProvider",)
TOKENS_A_THREAD = 512  # padded tokens a call: larger batches leave the processor's cache and are slower
MAX_BATCH_TOKENS = 4096
TOKEN_BYTES = 2**18  # a generous estimate of the memory for one padded token
MEMORY_SHARE = 8  # a batch uses at most 1 / MEMORY_SHARE of the available memory
CGROUP = Path("/sys/fs/cgroup")


def spark_cpus() -> int | None:
    """Return the cores of the Spark task that this process works for, if any."""
    spark = sys.modules.get("pyspark")
    context = spark.TaskContext.get() if spark else None
    return context.cpus() if context else None


def available_threads() -> int:
    """Return the Spark task's cores, else all that this process may run on."""
    return spark_cpus() or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def limit_tokenizer() -> None:
    """Limit the tokenizer to the Spark task's cores; change nothing outside Spark or if the user has set it."""
    if cpus := spark_cpus():
        os.environ.setdefault("TOKENIZERS_PARALLELISM", str(cpus > 1).lower())
        os.environ.setdefault("RAYON_NUM_THREADS", str(cpus))


def open_graph(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a session for the graph on that many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan for every shape of batch that it has ever seen
    return onnxruntime.InferenceSession(graph, options, providers=list(PROVIDERS))


def derive_batch_tokens(threads: int, memory: int) -> int:
    """Return the padded tokens a call, from threads and bytes of memory.

    >>> derive_batch_tokens(2, 2**34), derive_batch_tokens(64, 2**34), derive_batch_tokens(2, 2**29)
    (1024, 4096, 256)
    """
    return max(1, min(TOKENS_A_THREAD * threads, MAX_BATCH_TOKENS, memory // MEMORY_SHARE // TOKEN_BYTES))


def available_memory() -> int:
    """Return the available bytes: the machine's, or those left of the container's or process's limit if fewer."""
    room = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError):  # no control group, or no limit in it
        room.append(_read_bytes("memory.max") - _read_bytes("memory.current"))
    process = psutil.Process()
    if hasattr(process, "rlimit"):  # Spark sets it for spark.executor.pyspark.memory
        limit = process.rlimit(psutil.RLIMIT_AS)[0]
        room += [limit - process.memory_info().vms] if limit != psutil.RLIM_INFINITY else []
    return max(0, min(room))


def _read_bytes(name: str) -> int:
    return int((CGROUP / name).read_text())
