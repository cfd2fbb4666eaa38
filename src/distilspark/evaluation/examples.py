"""The rows with a model's best and worst predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Predictions


def example_table(task: TaskConfig, predictions: Predictions, count: int) -> pd.DataFrame:
    """Tabulate at most `count` best rows, then at most `count` worst ones, in the order of `Head.order_examples`.

    Columns: `kind` (`best` or `worst`), `id`, `sentence1`, for pairs `sentence2`, and those of `Head.describe_rows`.
    """
    head, labels, outputs = task.head_kind, predictions.labels, predictions.outputs
    best, worst = (positions[:count] for positions in head.order_examples(labels, outputs))
    rows = predictions.rows[["id", *task.text_columns]].reset_index(drop=True)
    table = rows.assign(**head.describe_rows(task, labels, outputs))
    chosen = table.iloc[np.concatenate([best, worst]).astype(int)].reset_index(drop=True)
    chosen.insert(0, "kind", ["best"] * len(best) + ["worst"] * len(worst))
    return chosen
