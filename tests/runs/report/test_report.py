"""The report of a run: honest figures, names that cannot break out of it, and folders in any state."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.files import write_json
from fl_app.metrics.membership import NUM_BINS, shown_histograms
from fl_app.runs.overview import REPORT
from fl_app.runs.report import live
from fl_app.runs.report.charts import Series, line_chart
from fl_app.runs.report.live import LiveReport
from fl_app.runs.report.page import render
from fl_app.runs.report.reading import read_material, read_rows
from fl_app.runs.report.verdict import cards, checks, headline
from tests.runs.report.made_up import exchange, make_run, write_audit
from tests.runs.report.page import Page, page_of

NASTY = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_the_first_lines_say_how_the_run_ended_who_was_late_and_what_was_reached(run: Path) -> None:
    text = page_of(run).text
    for said in (
        "Degraded",
        "south once late (first: no answer before the deadline)",
        "2 sites gave 11 of 12 contributions in 6 rounds",
        "missing or rejected at times: south",
        "0.900 95 %: 0.700 to 1.000 n = 20 test images",
        "1.08 n = 20 real, 40 generated images Real images reach 0.69",
        "Quite another figure without south",
        "✓ passed Model of diffusion",
    ):
        assert said in text


def test_every_figure_stands_with_its_number_of_images(run: Path) -> None:
    assert all(any(sign.isdigit() for sign in card.based_on) for card in cards(read_material(run, time.time())))


def test_confusion_and_split_have_counts_and_shares(run: Path) -> None:
    text = page_of(run).text
    assert "malignant 9 90 % 1 10 % 10 90 %" in text  # a row of the confusion matrix: counts, shares, n, recall
    assert "north 9 50 % 9 50 % 18" in text
    assert "held out, all sites 4 50 % 4 50 % 8" in text


def test_a_figure_of_a_plug_in_has_a_chart_of_its_own_that_calls_it_by_its_name(run: Path) -> None:
    text = page_of(run).text
    assert "Loss by noise: diffusion" in text and "Loss by noise: classification" not in text
    assert "Figures: classification Figures: classification share by round: accuracy from 0.6 to 0.8." in text
    assert "brier: classification brier: classification brier by round: brier from 0.9 to 0.3." in text


@pytest.mark.parametrize(
    ("test_set", "images"),
    [
        ("common", "share of the common test images"),
        ("own parts", "own test images"),
        (None, "held-out images"),
        ("", "own images"),
    ],
)
def test_the_accuracy_of_a_site_says_on_which_images_it_is(test_set: str | None, images: str, run: Path) -> None:
    document = exchange(("malignant", "normal, benign"), ("north", "south"))
    write_json(run / "classification" / "prototypes" / "round-0003.json", {**document, "test-set": test_set})
    assert f"faults (last reason) accuracy on its {images}" in page_of(run).text


def test_a_site_that_replied_without_images_is_said_to_have(run: Path) -> None:
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    write_json(run / "status.json", {**status, "nodes": {"north": {"contributed": 4}, "south": {"empty": 4}}})
    assert "0 4 without images none" in page_of(run).text


def test_a_page_needs_no_network_and_runs_no_script(run: Path) -> None:
    page = page_of(run)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            value = attributes.get(name) or "data:"
            assert value.startswith(("data:", "#")), (tag, value)
    (policy,) = [found["content"] for tag, found in page.elements if tag == "meta" and "http-equiv" in found]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_each_picture_has_a_text_and_each_id_is_used_once(run: Path) -> None:
    page = page_of(run)
    ids = [found["id"] for _, found in page.elements if found.get("id")]
    assert len(ids) == len(set(ids))
    for tag, found in page.elements:
        if tag == "img":
            assert found["alt"]
        if tag == "svg" and found.get("aria-hidden") != "true":
            assert found["role"] == "img"
            assert found.get("aria-label") or set((found["aria-labelledby"] or "").split()) <= set(ids)


@pytest.mark.parametrize("place", ["class", "site"])
def test_names_are_text_whatever_they_hold(place: str, tmp_path: Path) -> None:
    names = (NASTY, "other") if place == "class" else ("a", "b")
    sites = (NASTY, "other") if place == "site" else ("north", "south")
    page = page_of(make_run(tmp_path / "run", names, sites))
    assert "script" not in {tag for tag, _ in page.elements}
    assert NASTY in page.text and "49007" not in page.text


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=4, unique=True))
def test_any_names_make_a_whole_page(names: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        page_of(make_run(Path(folder) / "run", names, names))


def test_a_run_that_goes_on_says_what_it_does_and_a_killed_one_that_it_stopped(run: Path) -> None:
    status = {
        "state": "running",
        "task": "diffusion",
        "round": 2,
        "num-rounds": 3,
        "asked": ["north", "south"],
        "replied": ["north"],
    }
    (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
    assert "Stopped" in page_of(run).text  # nobody holds its lock
    material = read_material(run, time.time())
    assert headline(material).kind == "bad"
    assert {check.is_passed for check in checks(material)} == {True}


def test_the_audit_is_shown_if_there_is_one(run: Path) -> None:
    write_audit(run)
    text = page_of(run).text
    for said in (
        "✗ not passed Audit of training images:",
        "exceeded: AUC 0.71 <b>",
        "quarantined",
        "0.680 to 0.740",
        "Scored: 40 training images",
    ):
        assert said in text
    assert "Images by loss" in text and "training from 0.75 to 0.25" in text


def test_the_histograms_of_an_audit_add_up_over_sites() -> None:
    counts = np.zeros(NUM_BINS)
    counts[[10, 11, 20]] = 1, 2, 4
    found = shown_histograms([{"loss/train": counts, "sima/train": 0 * counts}] * 2)
    assert found["loss/train"] == [2, 4, *[0] * 8, 8] and found["sima/train"] == [0] * 11
    assert found["edges"] == pytest.approx([-5 + 6 * place / NUM_BINS for place in range(10, 22)])
    assert shown_histograms([]) == shown_histograms([{"loss/train": 0 * counts}]) == {}


def test_a_gallery_gives_the_images_of_each_class_and_nothing_else(run: Path, tmp_path: Path) -> None:
    path = run / "diffusion" / "samples" / "final.svg"
    rows = read_rows(path, ("malignant", "normal, benign"))
    assert [(row.weights, row.label) for row in rows] == [("raw (used)", 0), ("raw (used)", 1), ("ema", 0), ("ema", 1)]
    text = path.read_text(encoding="utf-8")
    for content in (
        text.replace("data:image/png;base64,", "https://example.org/"),
        text.replace("base64,", 'base64,"&lt;'),
        "<a/>",
    ):
        (tmp_path / "bad.svg").write_text(content, encoding="utf-8")
        assert read_rows(tmp_path / "bad.svg", ("malignant", "normal, benign")) == []


@given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(allow_nan=True, allow_infinity=True)), max_size=30),
    st.booleans(),
)
def test_a_chart_of_any_numbers_has_finite_places(points: list[tuple[int, float]], is_log: bool) -> None:
    chart = line_chart(
        "t", [Series("a", [(float(x), y) for x, y in points])], x_label="x", y_label="y", key="k", is_log=is_log
    )
    if chart is not None:
        assert "nan" not in chart and "inf," not in chart
        Page(str(chart))


def test_the_same_folder_gives_the_same_page(run: Path) -> None:
    material = read_material(run, 0.0)
    assert render(material, 0.0) == render(material, 0.0)


def test_a_report_that_fails_ends_nothing_and_is_logged_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_folder: Path) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(live, "write_report", fail)
    report = LiveReport(run)
    report.write()
    report.write()
    assert [record.getMessage() for record in caplog.records] == [
        "The report could not be written: ZeroDivisionError: no"
    ]


def test_a_report_takes_a_fiftieth_of_the_time_at_most(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    written: list[float] = []

    def write(_folder: Path) -> None:
        written.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(live, "write_report", write)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = LiveReport(run)
    for _ in range(200):
        report.refresh()
        now[0] += 1.0
    assert written == [100.0, 151.0, 202.0, 253.0]
    report.write()  # the end of a run is always told
    assert len(written) == 5 and REPORT == "report.html"
