"""`promote` as a user starts it: which versions pass the gate, why, and how the aliases move."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from pyspark.sql import SparkSession

from distilspark.config import TrainConfig
from distilspark.tracking.aliases import lock_aliases
from distilspark.tracking.model_card import GATE_HEADING
from helpers.contenders import NAME, Stable, open_stable, write_rows
from helpers.processes import TINY, Place, end_group

pytestmark = pytest.mark.slow
FAIR, EQUAL, WORSE, BETTER, ELSEWHERE, LEAKY = "1", "2", "3", "4", "5", "6"
EXPERIMENT = "distilspark-cola-promotion"
SMALL = [each for each in TINY if each.startswith("spark.")]


@pytest.fixture(scope="module")
def stable(
    tmp_path_factory: pytest.TempPathFactory,
    spark: SparkSession,
    compose_config: Callable[..., TrainConfig],
    tiny_folder: Path,
) -> Iterator[Stable]:
    """A working folder and a store with six registered versions."""
    place, before = Place(tmp_path_factory.mktemp("promote")), mlflow.get_tracking_uri()
    data = write_rows(place.folder / "data", train=120, dev=240, seed=0)
    config = compose_config("task=cola", "model=tiny", "model.pooling=mean", "data=files", f"data.path={data}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILSPARK_CACHE", place.environment["DISTILSPARK_CACHE"])
        made = open_stable(place, spark, config, tiny_folder)
        other = {**made.datasets.digests, "dev": "0" * 36}
        versions = [
            made.add(mistakes=0.4),
            made.add(mistakes=0.4),
            made.add(mistakes=0.8),
            made.add(mistakes=0.0),
            made.add(mistakes=0.0, digests=other),
            made.add(mistakes=0.0, trained_on=("train", "validation", "dev")),
        ]
        assert versions == [FAIR, EQUAL, WORSE, BETTER, ELSEWHERE, LEAKY]
        yield made
    mlflow.set_tracking_uri(before)


def command(stable: Stable, *overrides: str) -> list[str]:
    data = ["data=files", f"data.path={stable.config.data.path}", f"registry.name={NAME}"]
    return [sys.executable, "-m", "distilspark", "promote", *SMALL, *data, *overrides]


def promote(stable: Stable, *overrides: str) -> subprocess.CompletedProcess[str]:
    ended = stable.place.run(*command(stable, *overrides))
    assert "Traceback" not in ended.stderr and ended.stderr.count("\n") <= 1, ended.stderr
    return ended


def printed_verdict(ended: subprocess.CompletedProcess[str], version: str) -> str:
    """Return the verdict and its reason from the line about the version."""
    (line,) = [each for each in ended.stdout.splitlines() if each.startswith(f"version {version} is ")]
    return line.removeprefix(f"version {version} is ")


def last_run(stable: Stable) -> Run:
    return stable.place.runs(EXPERIMENT)[0]


def test_worse_challenger_is_refused_and_exits_with_1_if_promotion_is_required(stable: Stable) -> None:
    stable.alias(champion=FAIR, challenger=WORSE)
    ended = promote(stable, "promote.require=true")
    assert ended.returncode == 1
    assert ended.stderr.startswith("distilspark: ")
    assert printed_verdict(ended, WORSE).startswith("not promoted: worse")
    assert stable.aliases() == {"champion": FAIR, "challenger": WORSE}
    assert last_run(stable).info.status == "FINISHED", "the work was done"
    tags = stable.version(WORSE).tags
    assert tags["gate.verdict"] == "not promoted" and json.loads(tags["gate.numbers"])["high"] < 0
    assert tags["gate.run_id"] == last_run(stable).info.run_id


def test_equal_challenger_is_refused(stable: Stable) -> None:
    stable.alias(champion=FAIR, challenger=EQUAL)
    ended = promote(stable)
    assert ended.returncode == 0, ended.stderr
    assert printed_verdict(ended, EQUAL).startswith("not promoted: neither")
    assert stable.aliases() == {"champion": FAIR, "challenger": EQUAL}
    metrics = last_run(stable).data.metrics
    assert (metrics["gate/difference"], metrics["gate/shrinkage"]) == (0, 1)
    assert 0.5 < metrics["gate/speedup"] < 2


def test_better_challenger_is_promoted_and_can_be_rolled_back(stable: Stable) -> None:
    stable.alias(champion=FAIR, challenger=BETTER)
    ended = promote(stable, "promote.require=true")
    assert ended.returncode == 0, ended.stderr
    assert stable.aliases() == {"champion": BETTER, "challenger": BETTER, "previous": FAIR}
    version, run = stable.version(BETTER), last_run(stable)
    assert version.tags["gate.verdict"] == run.data.tags["gate.verdict"] == "promoted"
    verdict = json.loads(stable.place.artifact(run, "verdict.json").read_text())
    assert verdict["reason"].startswith("better")
    assert printed_verdict(ended, BETTER) == f"promoted: {verdict['reason']}"
    assert version.description == f"# Its card\n{GATE_HEADING}promoted: {verdict['reason']}.\n"
    assert 0 < verdict["low"] < verdict["difference"] < verdict["high"]
    assert verdict["difference"] == pytest.approx(verdict["challenger"] - verdict["champion"])
    assert json.loads(version.tags["gate.numbers"]).items() <= verdict.items()
    assert version.tags["gate.reason"] == verdict["reason"]
    assert run.data.tags["data.digest.dev"] == stable.datasets.digests["dev"]
    assert {f"version_{each}/examples.json" for each in (FAIR, BETTER)} <= set(stable.place.artifacts(run))
    again = promote(stable, "promote.require=true")
    assert again.returncode == 0 and last_run(stable).data.tags["gate.verdict"] == "champion already"
    back = promote(stable, "promote.rollback=true", "promote.require=true")
    assert back.returncode == 0, back.stderr
    assert stable.aliases() == {"champion": FAIR, "challenger": BETTER, "previous": BETTER}
    assert stable.version(BETTER).tags["gate.verdict"] == "rolled back"
    assert last_run(stable).info.run_name == "cola rollback"
    assert_refused(stable, promote(stable), f"version {BETTER}", NAME, "gate.verdict")


def test_first_challenger_that_beats_the_baseline_becomes_champion(stable: Stable) -> None:
    stable.alias(challenger=BETTER)
    stable.forgive(BETTER)
    ended = promote(stable)
    assert ended.returncode == 0 and printed_verdict(ended, BETTER).startswith("promoted: ")
    numbers = json.loads(stable.place.artifact(last_run(stable), "verdict.json").read_text())
    assert numbers["baseline"] < numbers["low"] < numbers["challenger"] and "champion" not in numbers
    assert stable.aliases() == {"challenger": BETTER, "champion": BETTER}


def assert_refused(stable: Stable, ended: subprocess.CompletedProcess[str], *named: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert all(name in ended.stderr for name in named), ended.stderr
    assert stable.aliases()["champion"] == FAIR


def test_challenger_of_another_dataset_is_refused(stable: Stable) -> None:
    stable.alias(champion=FAIR, challenger=ELSEWHERE)
    digest = stable.datasets.digests["dev"]
    assert_refused(stable, promote(stable), f"version {ELSEWHERE}", "dev", "0" * 36, digest)
    assert last_run(stable).info.status == "FAILED"


def test_challenger_trained_on_the_evaluation_rows_is_refused(stable: Stable) -> None:
    stable.alias(champion=FAIR, challenger=LEAKY)
    assert_refused(
        stable, promote(stable), f"version {LEAKY}", "240 of these 240", "100.0%", "promote.max_overlap=0.05"
    )


def test_missing_challenger_or_previous_alias_is_an_error(stable: Stable) -> None:
    stable.alias(champion=FAIR)
    assert_refused(stable, promote(stable), NAME, "@challenger")
    assert_refused(stable, promote(stable, "promote.rollback=true"), NAME, "@previous")


def decided(stable: Stable, before: set[str]) -> int:
    """Count the promotions that have a verdict, without the runs in `before`."""
    new = [run for run in stable.place.runs(EXPERIMENT) if run.info.run_id not in before]
    return sum("time/gate" in run.data.metrics for run in new)


def test_only_one_of_two_concurrent_promotions_moves_the_aliases(stable: Stable) -> None:
    """The test holds the lock until both have reached a verdict."""
    stable.alias(champion=FAIR, challenger=BETTER)
    stable.forgive(BETTER)
    before = {run.info.run_id for run in stable.place.runs(EXPERIMENT)}
    with lock_aliases(NAME):
        both = [
            stable.place.start(*command(stable, f"hydra.run.dir={stable.place.folder / str(number)}"))
            for number in (1, 2)
        ]
        try:
            end = time.monotonic() + 240
            while decided(stable, before) < 2:
                assert all(process.poll() is None for process in both) and time.monotonic() < end
                time.sleep(0.2)
        except BaseException:
            for process in both:
                end_group(process)
            raise
    said = [process.communicate(timeout=240)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert re.search(rf"{NAME}.*@champion {FAIR}.*@champion {BETTER}", "".join(said))
    assert stable.aliases() == {"champion": BETTER, "challenger": BETTER, "previous": FAIR}
