"""Detect the number formats for which this machine has matrix instructions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CPU_FLAGS = {"amx_bf16", "avx512_bf16"}  # a processor with one of them has instructions for products of bfloat16
GPU_CAPABILITY = 8.0  # so do NVIDIA's GPUs from this compute capability on
CPU_INFORMATION = Path("/proc/cpuinfo")


def multiplies_bfloat16() -> bool:
    """Return whether all GPUs, or the processor if there are none, have bfloat16 matrix instructions."""
    if capabilities := _gpu_capabilities():
        return min(capabilities) >= GPU_CAPABILITY
    return bool(CPU_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """Return the processor's flags from `/proc/cpuinfo`; none where that does not exist."""
    try:
        lines = CPU_INFORMATION.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _gpu_capabilities() -> list[float]:
    """Return the GPUs' compute capabilities by nvidia-smi; empty if it is missing or fails."""
    if not (command := shutil.which("nvidia-smi")):
        return []
    try:
        query = [command, "--query-gpu=compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
        return [float(line) for line in answer.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
