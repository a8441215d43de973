"""The report in a real browser: quiet, without a request, as wide as the screen, readable in light, dark and print."""

from pathlib import Path
from typing import get_args

import pytest

from fl_app.runs.report.page import write_report
from tests.runs.report.browser import (
    AXE,
    Medium,
    ask_page,
    console_of,
    needs_axe,
    needs_browser,
    open_page,
    requests_of,
)
from tests.runs.report.made_up import TWO, make_run, write_audit

pytestmark = needs_browser

_WIDTHS = (360, 768, 1280)
_TEN = tuple(f"class {label} with a long name" for label in range(10))
_SITES = tuple(f"hospital of the town number {number}" for number in range(7))

_WIDER = "return [document.documentElement.scrollWidth, innerWidth]"
_CUT_OFF = """
const range = document.createRange();
const end = one => { range.selectNodeContents(one); return range.getBoundingClientRect().right; };
const texts = [...document.querySelectorAll("caption, h1, h2, h3, p, li, dd, dt, summary")];
return texts.filter(one => end(one) > innerWidth).map(one => one.textContent);
"""
_UNTOLD = """
const named = one => one.getAttribute("alt") || one.getAttribute("aria-label")
  || (one.getAttribute("aria-labelledby") || "").split(" ").map(id => document.getElementById(id)?.innerHTML).join();
const shown = [...document.querySelectorAll("img, svg")].filter(one => one.getAttribute("aria-hidden") !== "true");
const broken = [...document.images].filter(one => !one.naturalWidth);
return [shown.length, shown.filter(one => !named(one).trim()).length, broken.length];
"""
_AXE = """
const found = await axe.run({resultTypes: ["violations"]});
const faults = found.violations.map(one => one.id + ": " + one.nodes.map(node => node.html.slice(0, 120)));
return [found.passes.length, faults];
"""


@pytest.fixture(scope="module", params=["two", "ten"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    run = make_run(folder) if request.param == "two" else make_run(folder, _TEN, _SITES)
    write_audit(run, ("loss", "sima"))
    return write_report(run)


def write(folder: Path, body: str) -> Path:
    page = folder / "page.html"
    page.write_text(f'<!doctype html><html lang="en"><title>t</title><body>{body}</body></html>', encoding="utf-8")
    return page


def test_the_console_says_nothing(page: Path, tmp_path: Path) -> None:
    assert console_of(page, tmp_path) == []


def test_an_error_of_a_page_is_seen(tmp_path: Path) -> None:
    assert "nothing" in str(console_of(write(tmp_path, "<script>nothing.here()</script>"), tmp_path))


def test_a_page_asks_for_nothing(page: Path, tmp_path: Path) -> None:
    assert requests_of(page, tmp_path) == []


def test_a_request_of_a_page_is_seen(tmp_path: Path) -> None:
    outside = write(tmp_path, '<img alt="x" src="http://pictures.invalid/x.png">')
    assert "http://pictures.invalid/x.png" in requests_of(outside, tmp_path)


@pytest.mark.parametrize("width", _WIDTHS)
def test_no_page_is_wider_than_its_screen(width: int, page: Path, tmp_path: Path) -> None:
    needed, there = ask_page(page, tmp_path, width, _WIDER)
    assert needed <= there == width


@pytest.mark.parametrize("width", _WIDTHS)
def test_no_title_or_sentence_is_cut_off(width: int, page: Path, tmp_path: Path) -> None:
    assert ask_page(page, tmp_path, width, _CUT_OFF) == []


def test_each_picture_has_a_text_and_is_drawn(page: Path, tmp_path: Path) -> None:
    shown, untold, broken = ask_page(page, tmp_path, 360, _UNTOLD)
    assert shown > 20 and untold == 0 and broken == 0


def test_a_report_prints(page: Path, tmp_path: Path) -> None:
    open_page(page, tmp_path, [f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer"])
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@needs_axe
@pytest.mark.parametrize("medium", get_args(Medium))
@pytest.mark.parametrize("width", _WIDTHS)
def test_axe_finds_no_violation(width: int, medium: Medium, page: Path, tmp_path: Path) -> None:
    library = Path(AXE or "").read_text(encoding="utf-8")
    passed, violations = ask_page(page, tmp_path, width, _AXE, medium=medium, library=library)
    assert passed > 10 and violations == []


@needs_axe
def test_axe_sees_a_text_that_cannot_be_read(tmp_path: Path) -> None:
    library = Path(AXE or "").read_text(encoding="utf-8")
    grey = write(tmp_path, '<main><h1>t</h1><p style="color:#ccc;background:#fff">grey</p></main>')
    assert "color-contrast" in str(ask_page(grey, tmp_path, 360, _AXE, library=library))


def test_the_names_of_these_runs_are_long_enough_to_break_a_page() -> None:
    assert len(TWO) == 2 and max(map(len, _TEN + _SITES)) > 20
