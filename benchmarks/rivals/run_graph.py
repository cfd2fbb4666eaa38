"""One process of `runtimes.py`: a graph in one runtime, timed with batches of several sizes.

`run_graph.py RUNTIME PRECISION GRAPH ROWS THREADS OUTPUTS TOKENS ...` prints rows a second by padded tokens a call, as
JSON, and writes the probabilities to OUTPUTS. ROWS is an `.npz` file of `token_ids`, joined, and `lengths`. The first
half of the rows warms up, and calibrates OpenVINO's int8.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from distilspark.features.buckets import pad, scoring_batches

BUCKET_WIDTH = 8
CALIBRATION_BATCHES = 100
Run = Callable[[dict[str, Any]], Any]


def main() -> None:
    """Time every batch size, and write the probabilities of the last."""
    runtime, precision, graph, source, threads, target, *sizes = sys.argv[1:]
    with np.load(source) as content:
        rows = np.split(content["token_ids"], np.cumsum(content["lengths"])[:-1])
    half = len(rows) // 2
    calibration = [inputs for _, inputs in batches(rows[:half], 256)][:CALIBRATION_BATCHES]
    run = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[runtime](
        graph, precision, int(threads), calibration
    )
    speeds = {}
    for size in map(int, sizes):
        for _, inputs in batches(rows[:half], size):
            run(inputs)
        outputs, started = {}, time.perf_counter()
        for numbers, inputs in batches(rows[half:], size):
            outputs.update(zip(numbers.tolist(), run(inputs), strict=True))
        speeds[size] = round((len(rows) - half) / (time.perf_counter() - started), 1)
    np.save(target, np.stack([outputs[number] for number in sorted(outputs)]))
    print(json.dumps(speeds))


def batches(rows: list[Any], tokens: int) -> Iterable[tuple[Any, dict[str, Any]]]:
    """Yield the numbers of each batch's rows, and its inputs."""
    lengths = np.array([len(row) for row in rows])
    for numbers in scoring_batches(lengths, tokens, BUCKET_WIDTH):
        padded = pad([rows[number] for number in numbers], BUCKET_WIDTH)
        yield numbers, {name: value.astype(np.int64) for name, value in padded.items()}  # as `pyfunc.Scorer` does


def open_onnxruntime(graph: str, precision: str, threads: int, calibration: list[Any]) -> Run:
    """Open the graph as `distilspark.package.runtime` does; int8 is in the graph."""
    from distilspark.package.runtime import open_graph

    session = open_graph(Path(graph), threads)
    return lambda inputs: session.run(None, inputs)[0]


def open_openvino(graph: str, precision: str, threads: int, calibration: list[Any]) -> Run:
    """Compile the float32 graph for one stream; int8 is NNCF's post-training quantization for transformers."""
    import openvino

    model = openvino.Core().read_model(graph)
    if precision == "int8":
        import nncf

        model = nncf.quantize(model, nncf.Dataset(calibration), model_type=nncf.ModelType.TRANSFORMER)
    hint = "bf16" if precision == "bfloat16" else "f32"
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda inputs: request.infer(inputs)[0].copy()


if __name__ == "__main__":
    main()
