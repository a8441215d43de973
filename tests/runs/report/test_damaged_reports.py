"""The report of a folder that is half written, damaged, of an older version, or has little to show."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.mutations import as_json, changed_document
from tests.runs.report.made_up import exchange, make_run, write_audit
from tests.runs.report.page import page_of

OLD_RUNS = Path(__file__).parents[2] / "old_runs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def drop(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def spoil(name: str, content: str = '{"half') -> Callable[[Path], None]:
    def write(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(content, encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (drop("run.json"), "run.json is missing"),
        (spoil("run.json"), "run.json is damaged"),
        (drop("status.json"), "status.json was never written"),
        (spoil("status.json"), "status.json is damaged"),
        (drop("metrics.jsonl"), "Degraded"),
        (spoil("metrics.jsonl", '{"task": "diff\n'), "1 lines of metrics.jsonl are damaged"),
        (spoil("diffusion/quality.json"), "quality.json is damaged"),
        (spoil("metrics.jsonl", ""), "metrics.jsonl is missing or empty"),
        (spoil("classification/comparison.csv", ""), "comparison.csv is missing or damaged"),
        (spoil("classification/prototypes/round-0003.json"), "round-0003.json is damaged"),
        (spoil("classification/comparison.csv", "\x00,"), "Degraded"),
        (spoil("diffusion/samples/final.svg", "<svg"), "samples/final is too large or damaged"),
        (lambda run: shutil.rmtree(run / "diffusion"), "not exported yet"),
    ],
)
def test_what_is_missing_or_damaged_is_told_and_the_rest_is_shown(
    damage: Callable[[Path], None], said: str, run: Path
) -> None:
    damage(run)
    text = page_of(run).text
    assert said in text and "Configuration and versions" in text


@pytest.mark.parametrize(
    "content",
    [
        '{"half',
        "[1]",
        '{"membership": 3}',
        '{"membership": {"verdict": "passed", "reason": ""}}',
        '{"membership": {"verdict": "passed", "reason": ""}, "max-auc": 0.65, "histograms": {"loss/train": [1, null]}}',
        '{"membership": {"verdict": "passed", "reason": ""}, "max-auc": 0.65, "copies": {"spaces": {"pixels": 3}}}',
    ],
)
def test_a_damaged_audit_is_told_and_not_half_shown_and_the_images_bear_a_warning(content: str, run: Path) -> None:
    spoil("diffusion/audit.json", content)(run)
    text = page_of(run).text
    assert "diffusion/audit.json is damaged: what the audit found is not known" in text
    assert "Membership inference" not in text and "Audit of training images" not in text
    assert "What the audit found is not known: these images may be copies of training images." in text


def test_any_damage_to_an_audit_makes_a_whole_page(run: Path) -> None:
    write_audit(run)
    document = json.loads((run / "diffusion" / "audit.json").read_bytes())
    for seed in range(30):
        spoil("diffusion/audit.json", as_json(changed_document(document, np.random.default_rng(seed))).decode())(run)
        text = page_of(run).text
        assert ("audit.json is damaged" in text) is not ("Membership inference" in text)


def test_counts_of_an_audit_that_fit_no_bins_are_left_out(run: Path) -> None:
    write_audit(run)
    path = run / "diffusion" / "audit.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.0,", "NaN,"), encoding="utf-8")
    assert "Membership inference: exceeded" in page_of(run).text


def test_an_empty_folder_and_one_without_a_task_have_a_report(tmp_path: Path) -> None:
    assert "No figure has been measured yet" in page_of(tmp_path).text
    (tmp_path / "run.json").write_text(json.dumps({"run-name": "x", "options": {}}), encoding="utf-8")
    assert "0 of 0 options differ" in page_of(tmp_path).text


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_runs_of_an_older_version_have_a_report(name: str, tmp_path: Path) -> None:
    shutil.copytree(OLD_RUNS / name, tmp_path / "run")
    text = page_of(tmp_path / "run").text
    assert ("Completed" if name == "finished" else "Stopped") in text or "Failed" in text
    assert "What left each site" in text


@pytest.mark.parametrize("images", [0, 1])
def test_without_test_images_or_with_one_nothing_is_invented(images: int, run: Path) -> None:
    path = run / "classification" / "prototypes" / "round-0003.json"
    path.write_text(json.dumps(exchange(("malignant", "normal, benign"), ("north",), images)), encoding="utf-8")
    text = page_of(run).text
    if images == 0:
        assert "Classifier: accuracy not defined n = 0 test images Not defined: no image was measured" in text
    else:
        assert "n = 2 test images" in text


def test_a_class_that_one_site_holds_is_named(run: Path) -> None:
    document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    document["nodes"]["north"]["train"] = [0, 9]
    (run / "run.json").write_text(json.dumps(document), encoding="utf-8")
    assert "One site alone holds: malignant." in page_of(run).text
