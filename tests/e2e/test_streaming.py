"""A stream that a user starts, stops and kills."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from helpers.predicting import (
    SIX_CHUNKS,
    TEXTS,
    check_rows,
    done_chunks,
    last_run,
    predict,
    predict_command,
    wait_for,
    write_lines,
)
from helpers.processes import end_group
from helpers.texts import lines_with
from helpers.trained import Trained

pytestmark = pytest.mark.slow
STREAM = ("predict.streaming=true", "predict.trigger_seconds=1", SIX_CHUNKS)


def test_stopped_and_killed_stream_scores_every_row_once(cola_training: Trained, tmp_path: Path) -> None:
    """Stopped and later killed within its second batch, then finished with `available_now`, as cron does."""
    place, inbox, output = cola_training.place, tmp_path / "inbox", tmp_path / "scored"
    second = output / "_stream" / "batch=00001"
    first, last = ["The first dog.", "The first cat."], ["The last dog."]
    inbox.mkdir()
    write_lines(inbox / "a.txt", first)
    process = place.start(*predict_command(inbox, output, *STREAM))
    try:
        wait_for((output / "batch=00000").exists, process)
        write_lines(inbox / "b.txt", TEXTS)
        wait_for(lambda: len(done_chunks(second)) >= 2, process)
        os.kill(process.pid, signal.SIGTERM)
        said, error = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert (process.returncode, error) == (0, ""), error
    assert len(lines_with(said, "batch 0", "rows", 2, 0)) == 1 and len(lines_with(said, "rows", 2, 0)) == 2
    run = last_run(place, "cola")
    assert (run.info.status, run.data.metrics["rows/in"]) == ("FINISHED", 2)
    assert {"manifest.json", "profile/profile.json", "drift/drift.json"} <= set(place.artifacts(run))
    before = done_chunks(second)
    assert 2 <= len(before) < 6
    process = place.start(*predict_command(inbox, output, *STREAM))
    try:
        wait_for(lambda: len(done_chunks(second)) > len(before), process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        end_group(process)
    assert not (output / "batch=00001").exists()
    write_lines(inbox / "c.txt", last)
    ended = predict(place, inbox, output, *STREAM, "predict.available_now=true")
    assert ended.returncode == 0, ended.stderr
    assert len(lines_with(ended.stdout, "rows", len(TEXTS) + 1, 0)) == 1
    check_rows(output, cola_training, [*first, *TEXTS, *last])
    manifest = json.loads((output / "_manifest.json").read_text())
    assert (manifest["batches"], manifest["rows"]["in"]) == (3, len(TEXTS) + 3)
    run = last_run(place, "cola")
    history = place.client.get_metric_history(run.info.run_id, "rows/in")
    assert [(point.step, point.value) for point in history if point.step == 1] == [(1, len(TEXTS))]
    assert run.data.metrics["rows/in"] == len(TEXTS) + 1
    assert {"drift/tokens", "speed/scoring"} <= run.data.metrics.keys()
