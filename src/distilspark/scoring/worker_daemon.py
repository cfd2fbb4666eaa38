"""Spark's Python daemon that imports a packaged model's slow dependencies before it forks workers.

Forked workers have them at once. `spark.python.daemon.module` names it, on this machine only: a
cluster's machines need not have the project.
"""

import importlib
import os
import sys
from contextlib import suppress

SLOW_IMPORTS = ("mlflow.pyfunc", "onnxruntime", "tokenizers")

if __name__ == "__main__":
    answers = os.dup(1)  # standard output carries Spark's protocol: no import may write to it
    os.dup2(2, 1)
    for name in SLOW_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    for name in [each for each in sys.modules if each.partition(".")[0] == "distilspark"]:
        del sys.modules[name]  # a model has its own copy
    sys.stdout.flush()
    os.dup2(answers, 1)
    os.close(answers)

    from pyspark.daemon import manager

    manager()
