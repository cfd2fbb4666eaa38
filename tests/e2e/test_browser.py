"""An ablation in MLflow's UI, as a person sees it in a browser: lists, descriptions, charts, images and tables.

`--screenshots docs/images` writes the pictures that the README shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import Ui, chromium, looking
from playwright.sync_api import Browser, Locator, expect
from serving import serving
from sweeping import Swept

if TYPE_CHECKING:
    from conftest import Trained

pytestmark = pytest.mark.slow
PARENT = "cola tiny class_weights"
CHILDREN = [f"{PARENT}=off", f"{PARENT}=balanced"]
IS_DRAWN = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url(browser: Browser, ablation: Swept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The ablation's store in a server, where there is a browser to look at it."""
    with serving(ablation.place, tmp_path_factory.mktemp("browser") / "server") as (address, _):
        yield address


@pytest.fixture
def ui(browser: Browser, url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ui]:
    """A new page, whose pictures go where `--screenshots` says."""
    with looking(browser, url, request.config.getoption("screenshots") or tmp_path) as page:
        yield page


def runs_page(ablation: Swept) -> str:
    """The list of the experiment's runs."""
    return f"#/experiments/{ablation.parent.info.experiment_id}/runs"


def view_page(ablation: Swept, mode: str) -> str:
    """The view that the ablation saved, as TABLE, CHART or ARTIFACT."""
    return f"{runs_page(ablation)}?viewStateShareKey={ablation.parent.data.tags['sweep.id']}&compareRunsMode={mode}"


def metrics(ablation: Swept, name: str) -> list[float]:
    """A metric of the children, in their order."""
    runs = {run.info.run_name: run for run in ablation.children.values()}
    return [runs[child].data.metrics[name] for child in CHILDREN]


def test_the_run_list_has_the_parent_and_below_it_its_children(ui: Ui, ablation: Swept) -> None:
    ui.open(runs_page(ablation))
    parent = ui.page.get_by_role("row").filter(has=ui.page.get_by_role("link", name=PARENT, exact=True))
    expect(parent).to_be_visible()
    expect(ui.page.get_by_role("link", name=CHILDREN[0])).to_have_count(0)
    parent.get_by_role("button").first.click()
    for child in CHILDREN:
        expect(ui.page.get_by_role("link", name=child, exact=True)).to_be_visible()


def test_an_experiments_view_lists_its_runs_by_the_metric(ui: Ui, cola_training: Trained) -> None:
    (page,) = re.findall(r"look at it: .* http://127\.0\.0\.1:5000/(#\S+)", cola_training.ended.stdout)
    run = cola_training.run
    ui.page.set_viewport_size({"width": 1760, "height": 400})
    ui.open(page)
    expect(ui.page.locator(f"a[href$='{run.info.run_id}']")).to_be_visible()
    shown = str(run.data.metrics["dev/mcc"]).removesuffix(".0")  # as JavaScript writes it
    expect(ui.page.locator("[col-id='metrics.`dev/mcc`']").get_by_text(shown, exact=True).first).to_be_visible()
    for column in ("model.name", "training.learning_rate", "dev/mcc", "dev/mcc_low", "dev/mcc_high"):
        expect(ui.page.get_by_role("columnheader").get_by_text(column, exact=True)).to_be_visible()
    ui.take_picture("results")


def test_its_view_lists_the_jobs_with_what_was_varied_and_the_metric(ui: Ui, ablation: Swept) -> None:
    ui.open(runs_page(ablation))
    ui.page.get_by_role("button", name="Views").click()
    ui.page.get_by_text(re.compile(f"^{PARENT} \\(")).click()
    for value, score in zip(("off", "balanced"), metrics(ablation, "dev/mcc"), strict=True):
        job = ui.page.get_by_role("row").filter(has=ui.page.get_by_role("gridcell", name=value, exact=True))
        shown = str(score).removesuffix(".0")  # as JavaScript writes it
        expect(job.locator("[col-id='metrics.`dev/mcc`']")).to_have_text(shown)
    for column in ("training.class_weights", "dev/mcc", "dev/mcc_low", "dev/mcc_high"):
        expect(ui.page.get_by_role("columnheader").get_by_text(column, exact=True)).to_be_visible()
    for child in CHILDREN:
        expect(ui.page.get_by_role("link", name=child, exact=True)).to_be_visible()
    ui.take_picture("view")


def test_the_parents_page_has_the_answer_and_leads_to_the_charts(ui: Ui, ablation: Swept) -> None:
    ui.open(f"{runs_page(ablation)}/{ablation.parent.info.run_id}")
    expect(ui.page.get_by_text(ablation.parent.data.tags["finding"]).first).to_be_visible()
    ui.page.get_by_text("Show more", exact=True).click()
    table = ui.page.get_by_role("table").filter(has_text="variant")
    for variant in ("off", "balanced"):
        expect(
            table.get_by_role("row").filter(has=ui.page.get_by_role("cell", name=variant, exact=True))
        ).to_be_visible()
    ui.take_picture("parent")
    with ui.page.expect_popup() as opened:
        ui.page.get_by_role("link", name="The jobs side by side").click()
    expect(opened.value.get_by_text("Parallel Coordinates").first).to_be_visible()


def card(ui: Ui, title: str) -> Locator:
    """A chart with its frame."""
    cards = ui.page.get_by_test_id("experiment-view-compare-runs-card")
    return cards.filter(has_text=re.compile(f"^{re.escape(title)}"))


def test_charts_have_the_jobs_side_by_side(ui: Ui, ablation: Swept) -> None:
    ui.page.set_viewport_size({"width": 1600, "height": 780})
    ui.open(view_page(ablation, "CHART"))
    parallel = card(ui, "Parallel Coordinates")
    for text in ("training.class_weights", "off", "balanced", "val/kept_mcc", "dev/mcc"):
        expect(parallel.locator("svg").get_by_text(text, exact=True).first).to_be_attached()
    ui.page.wait_for_function(IS_DRAWN, arg=parallel.locator("canvas.foreground").element_handle())
    for score in metrics(ablation, "dev/mcc"):
        expect(card(ui, "dev/mcc").locator("svg").get_by_text(f"{score:.2f}", exact=True).first).to_be_attached()
    for curve in ("val/mcc", "val/loss"):
        expect(card(ui, curve).locator(".scatterlayer .js-line")).not_to_have_count(0)
        for child in CHILDREN:
            expect(card(ui, curve).get_by_text(f"{child} ({curve})")).to_be_visible()
    ui.take_picture("charts")


def test_two_runs_are_compared(ui: Ui, ablation: Swept) -> None:
    runs = [ablation.children[f"training.class_weights={value}"].info.run_id for value in ("off", "balanced")]
    ui.page.set_viewport_size({"width": 1360, "height": 1470})
    ui.open(f"#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps([ablation.parent.info.experiment_id])}")
    for kind in ("Parameters", "Metrics"):
        ui.page.get_by_role("switch", name=f"{kind} - Show diff only").click()
    expect(row(ui, "training.class_weights")).to_have_text(["off", "balanced"])
    expect(ui.page.get_by_text("training.seed", exact=True)).to_have_count(0)
    expect(ui.page.get_by_role("link", name="dev/mcc", exact=True)).to_be_visible()
    for score in metrics(ablation, "dev/mcc"):
        expect(ui.page.get_by_text(f"{score:.3f}".removesuffix(".000"), exact=True).first).to_be_visible()
    metric = ui.page.get_by_role("combobox").nth(1)
    metric.press("Backspace")
    metric.fill("dev/mcc")
    metric.press("Enter")
    metric.press("Escape")
    axes = ui.page.locator(".parcoords .axis-title, .parcats .dimlabel")
    expect(axes).to_have_text(["training.class_weights", "dev/mcc"])
    ui.take_picture("compare")


def row(ui: Ui, name: str) -> Locator:
    """The cells of a row of a table."""
    return ui.page.get_by_role("row").filter(has=ui.page.get_by_text(name, exact=True)).get_by_role("cell")


def test_images_are_side_by_side(ui: Ui, ablation: Swept) -> None:
    ui.open(view_page(ablation, "CHART"))
    header = ui.page.get_by_test_id("experiment-view-compare-runs-section-header")
    header.filter(has_text="evaluation").evaluate("element => element.scrollIntoView()")
    card(ui, "evaluation/confusion_matrix").get_by_role("button").first.click()
    images = ui.page.get_by_role("dialog").get_by_role("img")
    expect(images).to_have_count(2)
    for image in images.all():
        ui.page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    for child in CHILDREN:
        expect(ui.page.get_by_role("dialog").get_by_text(child)).to_be_visible()
    expect(ui.page.get_by_role("dialog").get_by_text("task.name=")).to_have_count(0)  # 80 params above each image
    ui.page.set_viewport_size({"width": 720, "height": 560})
    ui.take_picture("images")


def test_tables_are_side_by_side(ui: Ui, ablation: Swept) -> None:
    ui.page.set_viewport_size({"width": 1600, "height": 780})
    ui.open(view_page(ablation, "ARTIFACT"))
    ui.page.get_by_text("Table:").click()
    ui.page.get_by_role("option", name="evaluation/slices.json").click()
    ui.page.get_by_role("option", name="profile/labels.json").click()
    ui.page.keyboard.press("Escape")
    for run in ablation.children.values():
        table = json.loads(ablation.place.artifact(run, "evaluation/slices.json").read_text())
        name, score = table["data"][0][:2]
        expect(ui.page.get_by_text(name, exact=True)).to_be_visible()
        expect(ui.page.get_by_text(str(score).removesuffix(".0"), exact=True).first).to_be_visible()
    ui.take_picture("tables")
