"""MLflow's UI shows an ablation in a browser: lists, descriptions, charts, images and tables.

With `--screenshots=docs/images --store=.` the tests open the newest ablation of CoLA's class weights in the project's
own store and write the README's screenshots.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run
from playwright.sync_api import Browser, Locator, expect

from helpers.browsers import Ui, chromium, looking
from helpers.processes import Place
from helpers.serving import serving
from helpers.sweeping import Swept, parents
from helpers.trained import Trained

pytestmark = pytest.mark.slow
VARIANTS = ("off", "balanced")
IS_DRAWN = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def swept(browser: Browser, request: pytest.FixtureRequest) -> Swept:
    """The newest ablation in `--store`, or the session's own ablation."""
    if folder := request.config.getoption("--store"):
        place = Place(folder.absolute())
        sweeps = parents(place, "distilspark-cola")
        found = [run for run in sweeps if run.data.tags["sweep.name"] == "class_weights"]
        if not found:
            pytest.fail(f"--store={folder}: {place.store} has no ablation of CoLA's class weights")
        return Swept(place, subprocess.CompletedProcess((), 0), found[0])
    return request.getfixturevalue("ablation")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def url(browser: Browser, swept: Swept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on the ablation's store."""
    with serving(swept.place, tmp_path_factory.mktemp("browser") / "server") as (address, _):
        yield address


@pytest.fixture
def ui(browser: Browser, url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ui]:
    """A new page; its screenshots go to the folder of `--screenshots`."""
    with looking(browser, url, request.config.getoption("screenshots") or tmp_path) as page:
        yield page


@pytest.fixture
def results(request: pytest.FixtureRequest, swept: Swept) -> tuple[str, Run]:
    """The link to the experiment's runs that a training printed, and the training's run."""
    if request.config.getoption("--store"):
        return f"{runs_page(swept)}?viewStateShareKey=results&compareRunsMode=TABLE", jobs(swept)[0]
    trained: Trained = request.getfixturevalue("cola_training")
    (page,) = re.findall(r"look at it: .* http://127\.0\.0\.1:5000/(#\S+)", trained.ended.stdout)
    return page, trained.run


def runs_page(swept: Swept) -> str:
    """Return the path of the experiment's run list."""
    return f"#/experiments/{swept.parent.info.experiment_id}/runs"


def view_page(swept: Swept, mode: str) -> str:
    """Return the path of the view that the ablation saved, in mode TABLE, CHART or ARTIFACT."""
    return f"{runs_page(swept)}?viewStateShareKey={swept.parent.data.tags['sweep.id']}&compareRunsMode={mode}"


def jobs(swept: Swept) -> list[Run]:
    """Return the ablation's jobs, those without class weights first."""
    return sorted(swept.children.values(), key=lambda run: (VARIANTS.index(variant(run)), run.info.run_name))


def variant(run: Run) -> str:
    """Return the job's value of the varied setting."""
    return run.data.params["training.class_weights"]


def shown(score: float) -> str:
    """Format a number as JavaScript does."""
    return str(score).removesuffix(".0")


def link(ui: Ui, run: Run) -> Locator:
    """Return the link with the run's name."""
    return ui.page.get_by_role("link", name=run.info.run_name, exact=True)


def cell(ui: Ui, run: Run, column: str) -> Locator:
    """Return a run's cell in a run list."""
    number = ui.page.get_by_role("row").filter(has=link(ui, run)).get_attribute("row-index")
    return ui.page.locator(f"[role=row][row-index='{number}'] [col-id='{column}']")


def test_run_list_nests_the_jobs_under_the_sweep_run(ui: Ui, swept: Swept) -> None:
    ui.open(runs_page(swept))
    parent = ui.page.get_by_role("row").filter(has=link(ui, swept.parent))
    expect(parent).to_be_visible()
    expect(link(ui, jobs(swept)[0])).to_have_count(0)
    parent.get_by_role("button").first.click()
    for job in jobs(swept):
        expect(link(ui, job)).to_be_visible()


def test_results_view_lists_runs_with_settings_and_metrics(ui: Ui, results: tuple[str, Run]) -> None:
    page, run = results
    ui.page.set_viewport_size({"width": 1760, "height": 520})
    ui.open(page)
    expect(ui.page.locator(f"a[href$='{run.info.run_id}']")).to_be_visible()
    score = shown(run.data.metrics["dev/mcc"])
    expect(ui.page.locator("[col-id='metrics.`dev/mcc`']").get_by_text(score, exact=True).first).to_be_visible()
    for column in ("model.name", "training.learning_rate", "dev/mcc", "dev/mcc_low", "dev/mcc_high"):
        expect(ui.page.get_by_role("columnheader").get_by_text(column, exact=True)).to_be_visible()
    ui.take_picture("results")


def test_sweep_view_lists_the_jobs_with_the_varied_setting_and_the_metric(ui: Ui, swept: Swept) -> None:
    ui.open(runs_page(swept))
    ui.page.get_by_role("button", name="Views").click()
    ui.page.get_by_text(re.compile(f"^{swept.parent.info.run_name} \\(")).click()
    for column in ("training.class_weights", "dev/mcc", "dev/mcc_low", "dev/mcc_high"):
        expect(ui.page.get_by_role("columnheader").get_by_text(column, exact=True)).to_be_visible()
    for job in jobs(swept):
        expect(cell(ui, job, "params.`training.class_weights`")).to_have_text(variant(job))
        expect(cell(ui, job, "metrics.`dev/mcc`")).to_have_text(shown(job.data.metrics["dev/mcc"]))
    ui.take_picture("view")


def test_sweep_run_page_shows_the_finding_and_links_to_the_charts(ui: Ui, swept: Swept) -> None:
    ui.open(f"{runs_page(swept)}/{swept.parent.info.run_id}")
    expect(ui.page.get_by_text(swept.parent.data.tags["finding"]).first).to_be_visible()
    ui.page.get_by_text("Show more", exact=True).click()
    table = ui.page.get_by_role("table").filter(has_text="variant")
    for name in VARIANTS:
        expect(table.get_by_role("row").filter(has=ui.page.get_by_role("cell", name=name, exact=True))).to_be_visible()
    ui.take_picture("parent")
    with ui.page.expect_popup() as opened:
        ui.page.get_by_role("link", name="The jobs side by side").click()
    expect(opened.value.get_by_text("Parallel Coordinates").first).to_be_visible()


def card(ui: Ui, title: str) -> Locator:
    """Return a chart with its frame."""
    cards = ui.page.get_by_test_id("experiment-view-compare-runs-card")
    return cards.filter(has_text=re.compile(f"^{re.escape(title)}"))


def test_charts_show_all_jobs(ui: Ui, swept: Swept) -> None:
    ui.page.set_viewport_size({"width": 1600, "height": 780})
    ui.open(view_page(swept, "CHART"))
    parallel = card(ui, "Parallel Coordinates")
    for text in ("training.class_weights", *VARIANTS, "val/kept_mcc", "dev/mcc"):
        expect(parallel.locator("svg").get_by_text(text, exact=True).first).to_be_attached()
    ui.page.wait_for_function(IS_DRAWN, arg=parallel.locator("canvas.foreground").element_handle())
    for job in jobs(swept):
        score = f"{job.data.metrics['dev/mcc']:.2f}"
        expect(card(ui, "dev/mcc").locator("svg").get_by_text(score, exact=True).first).to_be_attached()
    for curve in ("val/mcc", "val/loss"):
        expect(card(ui, curve).locator(".scatterlayer .js-line")).not_to_have_count(0)
        for job in jobs(swept):
            expect(card(ui, curve).get_by_text(f"{job.info.run_name} ({curve})")).to_be_visible()
    ui.take_picture("charts")


def test_comparison_page_shows_what_differs_between_two_runs(ui: Ui, swept: Swept) -> None:
    pair = [next(job for job in jobs(swept) if variant(job) == name) for name in VARIANTS]
    runs = [job.info.run_id for job in pair]
    ui.page.set_viewport_size({"width": 1360, "height": 1470})
    ui.open(f"#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps([swept.parent.info.experiment_id])}")
    ui.page.get_by_role("switch", name="Parameters - Show diff only").click()
    expect(row(ui, "training.class_weights")).to_have_text(list(VARIANTS))
    expect(ui.page.get_by_text("training.seed", exact=True)).to_have_count(0)
    one, other = (job.data.metrics for job in pair)
    expect(link_to(ui, "baseline/accuracy")).to_be_visible()
    expect(ui.page.get_by_text(shown(round(one["baseline/accuracy"], 3)), exact=True).first).to_be_visible()
    ui.page.get_by_role("switch", name="Metrics - Show diff only").click()
    expect(link_to(ui, "baseline/accuracy")).to_have_count(0)
    expect(link_to(ui, min(name for name in {*one} & {*other} if one[name] != other[name]))).to_be_visible()
    metric = ui.page.get_by_role("combobox").nth(1)
    metric.press("Backspace")
    metric.fill("dev/mcc")
    metric.press("Enter")
    metric.press("Escape")
    axes = ui.page.locator(".parcoords .axis-title, .parcats .dimlabel")
    expect(axes).to_have_text(["training.class_weights", "dev/mcc"])
    ui.take_picture("compare")


def link_to(ui: Ui, metric: str) -> Locator:
    """Return the link of a metric. The page renders only the metrics that are scrolled into view."""
    return ui.page.get_by_role("link", name=metric, exact=True)


def row(ui: Ui, name: str) -> Locator:
    """Return the cells of a table row."""
    return ui.page.get_by_role("row").filter(has=ui.page.get_by_text(name, exact=True)).get_by_role("cell")


def test_confusion_matrices_of_all_jobs_are_shown_side_by_side(ui: Ui, swept: Swept) -> None:
    ui.open(view_page(swept, "CHART"))
    header = ui.page.get_by_test_id("experiment-view-compare-runs-section-header")
    header.filter(has_text="evaluation").evaluate("element => element.scrollIntoView()")
    card(ui, "evaluation/confusion_matrix").get_by_role("button").first.click()
    images = ui.page.get_by_role("dialog").get_by_role("img")
    expect(images).to_have_count(len(jobs(swept)))
    for image in images.all():
        ui.page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    for job in jobs(swept):
        expect(ui.page.get_by_role("dialog").get_by_text(job.info.run_name)).to_be_visible()
    expect(ui.page.get_by_role("dialog").get_by_text("task.name=")).to_have_count(0)  # 80 params above each image
    rows = -(-len(jobs(swept)) // 3)
    ui.page.set_viewport_size({"width": 1360 if rows > 1 else 720, "height": 240 + 320 * rows})
    ui.take_picture("images")


def test_tables_of_the_jobs_are_shown_side_by_side(ui: Ui, swept: Swept) -> None:
    ui.page.set_viewport_size({"width": 1600, "height": 780})
    ui.open(view_page(swept, "ARTIFACT"))
    ui.page.get_by_text("Table:").click()
    ui.page.get_by_role("option", name="evaluation/slices.json").click()
    ui.page.get_by_role("option", name="profile/labels.json").click()
    ui.page.keyboard.press("Escape")
    best_first = sorted(jobs(swept), key=lambda job: -job.data.metrics["dev/mcc"])
    for job in best_first[:2]:  # further jobs may not fit into the window
        table = json.loads(swept.place.artifact(job, "evaluation/slices.json").read_text())
        name, score = table["data"][0][:2]
        expect(ui.page.get_by_text(name, exact=True)).to_be_visible()
        expect(ui.page.get_by_text(shown(score), exact=True).first).to_be_visible()
    ui.take_picture("tables")
