"""A clock for the steps of a training; rivals in other environments use it too."""

from __future__ import annotations

import resource
import time

WARM_UP = 20  # steps that are not timed, because they trace, compile and fill caches


class StepClock:
    """Wall and processor time from the end of step `WARM_UP` to the end of the last step."""

    def __init__(self, batch_size: int) -> None:
        """Start a clock for `batch_size` rows a step."""
        self.batch_size, self.steps = batch_size, 0
        self.started = self.ended = (0.0, 0.0)

    def tick(self) -> None:
        """Count a finished step."""
        self.steps += 1
        self.ended = time.perf_counter(), time.process_time()
        if self.steps == WARM_UP:
            self.started = self.ended

    def figures(self) -> dict[str, float]:
        """Return rows a second, milliseconds of processor time a step, and the process's peak memory in MiB."""
        steps = self.steps - WARM_UP
        wall, cpu = (end - start for start, end in zip(self.started, self.ended, strict=True))
        return {
            "rows_per_second": round(steps * self.batch_size / wall, 1),
            "cpu_ms_per_step": round(1000 * cpu / steps, 1),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
