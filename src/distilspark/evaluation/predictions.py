"""A model's predictions for labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
ROW_COLUMNS = ["id", "sentence1", "sentence2", "source", "tokens"]
OUTPUT = "output_"


@dataclass(frozen=True)
class Predictions:
    """Labels and a model's outputs, row by row: all parts have the same n rows, in the same order.

    Attributes:
        rows: columns `id`, `sentence1`, `sentence2` (None for single sentences), `source` (may be null) and `tokens`
            (the row's number of tokens before truncation).
        labels: (n,); classification: label ids, regression: the values.
        outputs: classification: (n, classes) probabilities; regression: (n,) predicted values.

    Raises:
        ValueError: the parts differ in their number of rows.

    """

    rows: pd.DataFrame
    labels: Array
    outputs: Array

    def __post_init__(self) -> None:
        sizes = {"rows": len(self.rows), "labels": len(self.labels), "outputs": len(self.outputs)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"rows, labels and outputs differ in length: {sizes}")

    @property
    def predicted(self) -> Array:
        """The most probable label ids, or the predicted values, (n,)."""
        return np.argmax(self.outputs, axis=1) if self.outputs.ndim == 2 else self.outputs

    def to_frame(self) -> pd.DataFrame:
        """Tabulate rows with label and outputs: `output_0`, `output_1`, … for classes, `output_0` for values."""
        outputs = self.outputs.reshape(len(self.labels), -1)
        named = {f"{OUTPUT}{unit}": outputs[:, unit] for unit in range(outputs.shape[1])}
        return self.rows[ROW_COLUMNS].reset_index(drop=True).assign(label=self.labels, **named)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Predictions:
        """Read what `to_frame` wrote."""
        outputs = frame[[name for name in frame.columns if name.startswith(OUTPUT)]].to_numpy()
        return cls(frame[ROW_COLUMNS], frame["label"].to_numpy(), outputs[:, 0] if outputs.shape[1] == 1 else outputs)

    def where(self, mask: Array) -> Predictions:
        """Return the rows where the boolean `mask` (n,) is true."""
        return Predictions(self.rows.loc[np.asarray(mask)], self.labels[mask], self.outputs[mask])
