"""The command line: arguments, the Hydra job, errors on one line, exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from distilspark.console import log_to_stderr, logger, new_log, output_to, print_line
from distilspark.errors import UserError, WorkError, one_line, wrap_unexpected
from distilspark.paths import CONF, from_caller, set_caller
from distilspark.preflight import check_machine
from distilspark.redaction import learn_from_environment, redact
from distilspark.scratch import use_scratch_folder

COMMANDS = {
    "train": "fine-tune, evaluate, log and register one model",
    "evaluate": "evaluate a registered model on labelled rows",
    "promote": "make the challenger the champion if it is significantly better, or clearly cheaper",
    "predict": "score files with a registered model in Spark",
    "compare": "compare the variants of a sweep, runs or models, with significance tests",
    "server": "serve the tracking store and its UI to a team",
}
SERVICES = {"server"}  # need no Java, keep the terminal, end when they are stopped, and are no MLflow entry points
STARTED_BY = "--started-by"  # in MLproject, with the process id of `mlflow run`
INTERRUPTED = 130  # exit code
HYDRA_FOLDERS = {"hydra.run.dir", "hydra.sweep.dir"}
HYDRA_FLAGS = {
    *("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--shell-completion"),
    *("--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun", "--info"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; return the exit code: 0 success, 1 the work failed, 2 a user error, 130 interrupted."""
    learn_from_environment()
    try:
        command, *rest = _without_caller(arguments) or ["--help"]
        if command in ("--help", "-h"):
            return _usage()
        if command not in COMMANDS:
            raise UserError(f"no command {command!r}; there are: {', '.join(COMMANDS)}")
        run_hydra(command, hydra_arguments(rest))
    except UserError as error:
        return _fail(str(error), 2)
    except WorkError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return 0


def _without_caller(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the one that MLproject adds, which is processed here."""
    if STARTED_BY not in arguments:
        return list(arguments)
    place = arguments.index(STARTED_BY)
    set_caller("".join(arguments[place + 1 : place + 2]))
    return [*arguments[:place], *arguments[place + 2 :]]


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """Convert the `--key value` pairs that MLflow appends to Hydra's `key=value`; leave all else unchanged.

    Empty ones are dropped. A value that Hydra's grammar cannot read is a plain string in both forms, and is quoted.
    Overrides come first: Hydra does not accept them on both sides of a flag.

    >>> hydra_arguments(["task=cola", "", "--training.epochs", "1", "--data.path", "a b$(id)", "--features.text", ""])
    ['task=cola', 'training.epochs=1', "data.path='a b$(id)'"]
    >>> hydra_arguments(["--multirun", "training.seed=1,2", "--cfg", "job"])
    ['training.seed=1,2', '--multirun', '--cfg', 'job']
    """
    overrides: list[str] = []
    flags: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument:
            continue
        if argument.partition("=")[0] in HYDRA_FLAGS:
            flags.append(argument)
        elif argument.startswith("--"):
            key, separator, value = argument[2:].partition("=")
            given = value if separator else next(rest, None)
            if given is None:
                raise UserError(f"{argument} has no value: write {key}=VALUE")
            overrides += [_override(key, given)] if given else []
        elif "=" in argument:
            overrides.append(_override(*argument.split("=", 1)))
        else:
            (overrides if argument.startswith("~") else flags).append(argument)
    return [*overrides, *flags]


def _override(key: str, value: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if key in HYDRA_FOLDERS and value[:1] not in "$'\"":  # neither an interpolation nor quoted
        value = from_caller(value)
    with suppress(HydraException):
        OverridesParser.create().parse_override(f"{key}={value}")
        if value == value.strip():
            return f"{key}={value}"
    # Hydra's grammar reads a backslash as an escape only before a quote
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{escaped}'"


def run_hydra(command: str, arguments: list[str]) -> None:
    """Compose `conf/COMMAND.yaml` with the arguments and run the command on it, in one or several Hydra jobs."""
    import hydra

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here, instead of Hydra's own report and exit code
    sys.argv = [f"distilspark {command}", *arguments]
    failures: list[Exception] = []
    job = hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(_job(command, failures))
    try:
        job()
    except (UserError, WorkError):  # from a sweep, with the failures of all its jobs
        raise
    except Exception as error:  # the job records its own errors: this is Hydra's, about the arguments
        raise UserError(f"{one_line(error)} (`python -m distilspark {command} --cfg job` shows all keys)") from error
    if failures:
        raise failures[0] if len(failures) == 1 else WorkError(_join_failures(failures))


def _job(command: str, failures: list[Exception]) -> Callable[[object], Exception | None]:
    """Return the Hydra job. It records its failure, so that other jobs of a multirun go on and Hydra prints nothing.

    It returns the failure too, since launchers with their own processes pass back nothing else.
    """

    def job(composed: Any) -> Exception | None:
        from hydra.core.hydra_config import HydraConfig

        log = Path(HydraConfig.get().runtime.output_dir) / f"{command}.log"
        try:
            with nullcontext() if command in SERVICES else _batch(log):
                from distilspark.workflows.runner import run_command, run_service  # imports Spark

                if command in SERVICES:
                    run_service(composed)
                else:
                    run_command(command, composed, log)
        except Exception as error:
            failures.append(wrap_unexpected(error, log))
            return failures[-1]
        return None

    return job


def _join_failures(failures: list[Exception]) -> str:
    return "\n".join([f"{len(failures)} jobs failed", *(f"- {failure}" for failure in failures)])


@contextmanager
def _batch(log: Path) -> Iterator[None]:
    """Check the machine and redirect output to the log, for a command that starts Spark."""
    check_machine()
    use_scratch_folder()
    new_log(log)
    with output_to(log):
        log_to_stderr()
        with _log_unexpected():
            yield


@contextmanager
def _log_unexpected() -> Iterator[None]:
    try:
        yield
    except (UserError, WorkError):
        raise
    except Exception:
        logger.exception("the command failed")
        raise


def _usage() -> int:
    print_line("usage: distilspark COMMAND [key=value ...]\n\ncommands:")
    for command, purpose in COMMANDS.items():
        print_line(f"  {command:<10}{purpose}")
    print_line("\nEvery key of conf/COMMAND.yaml can be set; `distilspark COMMAND --help` lists them.")
    return 0


def _fail(message: str, code: int) -> int:
    print(f"distilspark: {redact(message)}", file=sys.stderr)
    return code
