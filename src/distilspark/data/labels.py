"""Convert labels from a file's text to the task's numbers."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from distilspark.config import TaskConfig

HIDDEN_LABEL = -1  # the hub's value of a hidden label
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def label_value(label: Column, task: TaskConfig) -> Column:
    """Return a label's text as a number: a label's name as its id, else the number itself; null for anything else.

    If names are numbers ("1" to "5"), a number is a name, compared by value, and never an id.
    """
    text = F.trim(label)
    number = F.when(text.rlike(NUMBER), text.try_cast("double"))
    if not task.labels:
        return number
    by_name = _lookup(text, {name: place for place, name in enumerate(task.labels)})
    if values := task.label_values:
        return F.coalesce(by_name, _lookup(number, values))
    return F.coalesce(by_name, number)


def _lookup(key: Column, ids: dict[str, int] | dict[float, int]) -> Column:
    entries = (F.lit(part) for name, place in ids.items() for part in (name, float(place)))
    return F.try_element_at(F.create_map(*entries), key)


def is_allowed(task: TaskConfig, label: Column) -> Column:
    """Return whether the task allows a label's number; null stays null."""
    return task.head_kind.is_allowed(task, label)


def label_problem(task: TaskConfig, text: Column, label: Column) -> Column:
    """Return the reason to reject a row's label, or null; `text`: as in the file; `label`: its number."""
    allowed = task.head_kind.allowed_labels(task)
    return F.coalesce(
        F.when(F.coalesce(F.trim(text), F.lit("")) == "", "label is empty"),
        F.when(label == HIDDEN_LABEL, f"label is hidden ({HIDDEN_LABEL})"),
        F.when(~F.coalesce(is_allowed(task, label), F.lit(False)), f"label is not {allowed}"),
    )
