"""`fl-app copies`: what a node found, said without control characters, and wrong input."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import rc_context
from typer.testing import CliRunner

from fl_app.api.drawing import open_model
from fl_app.api.run import Run
from fl_app.cli.app import app
from fl_app.errors import OptionError, RunFolderError
from fl_app.files import to_json, write_json
from fl_app.metrics.audited import Copies, Membership
from fl_app.options.sections import OptionValue
from fl_app.runs.audit import Audit
from fl_app.runs.folder import RunFolder
from fl_app.runs.pairs import COPIES, Found, Pair, files_of_run, read_copies, write_copies
from fl_app.runs.run_json import RunDocument, write_document

PAIR = Pair(space="pixels", ratio=0.12, drawn=4, drawn_class="cat", trained=7, trained_class="ca\u001b[2Jt")


def run_folder(tmp_path: Path, *pairs: Pair, size: int = 8, site: str = "site-0") -> Path:
    """Return a simulation's run folder with a site, or with one more."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text("{}")
    counts = {"pixels": [200, len(pairs), 30, 1], "unet": [0, 0, 0, 0]}
    found = Found(run="run", site=site, round=3, num_drawn=200, num_train=90, counts=counts, pairs=pairs)
    images = torch.arange(len(pairs) * size * size, dtype=torch.uint8).reshape(len(pairs), 1, size, size)
    write_copies(run / COPIES / f"{site}.safetensors", found, images, images.flip(-1))
    return run


def show(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["copies", *map(str, arguments)])


def test_what_is_written_is_read_and_closed_to_others(tmp_path: Path) -> None:
    (path,) = files_of_run(run_folder(tmp_path, PAIR, PAIR))
    found, drawn, trained = read_copies(path)
    assert found.pairs == (PAIR, PAIR) and torch.equal(drawn, trained.flip(-1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_table_shows_each_pair_and_commands_no_terminal(tmp_path: Path) -> None:
    result = show(run_folder(tmp_path, PAIR))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    total = "run, round 3, site-0, 90 training images: near copies 1 of 200 by pixels (held out 1 of 30)."
    assert lines[0] == total and max(map(len, lines)) < 160
    assert lines[1].startswith("A near copy is closer to one training image than 0.3 times the mean distance")
    assert lines[3].split() == ["site", "features", "ratio", "drawn", "as", "training", "image", "its", "class"]
    assert lines[4].split()[:6] == ["1", "site-0", "pixels", "0.120", "4", "cat"]
    assert lines[-1].endswith("--picture pairs.png")
    assert "\u001b" not in result.stdout and "unet" not in result.stdout


def test_no_near_copies_are_no_error(tmp_path: Path) -> None:
    result = show(run_folder(tmp_path), "--picture", tmp_path / "pairs.png")
    assert result.exit_code == 0 and "near copies 0 of 200 by pixels" in result.stdout
    assert not (tmp_path / "pairs.png").exists()


def test_json_holds_the_same(tmp_path: Path) -> None:
    found = json.loads(show(run_folder(tmp_path, PAIR), "--json").stdout)
    assert found["searched"] == [
        {
            "run": "run", "site": "site-0", "round": 3, "num-drawn": 200, "num-train": 90,
            "counts": {"pixels": [200, 1, 30, 1], "unet": [0, 0, 0, 0]},
        }
    ]  # fmt: skip
    assert found["copies"][0]["ratio"] == 0.12 and found["copies"][0]["file"] is None and found["damaged"] == []


@pytest.mark.parametrize("name", ["pairs.jpg", "missing/pairs.png"])
def test_a_picture_that_cannot_be_is_an_error_before_anything(tmp_path: Path, name: str) -> None:
    result = show(run_folder(tmp_path, PAIR), "--picture", tmp_path / name)
    assert isinstance(result.exception, OptionError) and "--picture" in str(result.exception)


def test_wrong_input_is_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path, PAIR)
    both = show("--state-dir", tmp_path, "--node-config", 'data-path="/x" site="y"')
    assert isinstance(both.exception, OptionError) and "give one of them" in str(both.exception)
    missing = show("--state-dir", tmp_path / "none")
    assert isinstance(missing.exception, OptionError) and "There is no folder" in str(missing.exception)
    (path,) = files_of_run(run)
    for content in (b"", path.read_bytes()[:-40], b"no safetensors" * 9):
        path.write_bytes(content)
        damaged = show(run)
        assert isinstance(damaged.exception, RunFolderError) and "is damaged" in str(damaged.exception)
    path.unlink()
    empty = show(run)
    assert isinstance(empty.exception, RunFolderError) and "holds no search for copies" in str(empty.exception)


def test_the_first_line_is_the_total_of_all_sites_with_the_verdict_and_the_nearest_pairs_come_first(
    tmp_path: Path,
) -> None:
    run_folder(tmp_path, PAIR)
    run = run_folder(tmp_path, replace(PAIR, ratio=0.05), replace(PAIR, ratio=0.2), site="site-1")
    write_audit(run, copies=True)
    lines = show(run).stdout.splitlines()
    total = "run, round 3, 2 sites, 180 training images: near copies 3 of 400 by pixels (held out 2 of 60)."
    assert lines[0] == f"{total} Audit of copies: exceeded."
    assert lines[1] == "- site-0: 1 of 200 by pixels (held out 1 of 30)"
    assert [line.split()[3] for line in lines[-4:-1]] == ["0.050", "0.120", "0.200"]


def test_of_many_pairs_the_nearest_twenty_are_shown(tmp_path: Path) -> None:
    run = run_folder(tmp_path, *(replace(PAIR, ratio=place / 100) for place in range(1, 31)))
    output = show(run).stdout
    assert "The nearest 20 of 30 pairs" in output and "0.200" in output and "0.210" not in output


def test_a_picture_has_headings_and_names_the_site_and_both_classes(tmp_path: Path) -> None:
    with rc_context({"svg.fonttype": "none"}):
        result = show(run_folder(tmp_path, PAIR), "--picture", tmp_path / "pairs.png")
    assert result.exit_code == 0
    texts = (tmp_path / "pairs.svg").read_text()
    for text in ("drawn", "training image", "site-0, pixels 0.12", "class cat / "):
        assert text in texts


def test_a_damaged_file_costs_no_other_sites_pairs(tmp_path: Path) -> None:
    run = run_folder(tmp_path, PAIR)
    (run_folder(tmp_path, PAIR, site="site-1") / COPIES / "site-1.safetensors").write_bytes(b"half")
    result = show(run)
    assert result.exit_code == 1 and "site-0" in result.stdout and "0.120" in result.stdout
    assert "site-1.safetensors is damaged" in result.stderr and "counts and pairs are lost" in result.stderr
    (damaged,) = json.loads(show(run, "--json").stdout)["damaged"]
    assert damaged.endswith("site-1.safetensors")


def write_run(run: Path, state: str = "completed", **options: OptionValue) -> None:
    """Write run.json and status.json of a run that looks for copies unless the options say otherwise."""
    usual: dict[str, OptionValue] = {"tasks": "diffusion", "audit.membership": True, "audit.copies-images": 200}
    named = {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    run.mkdir(exist_ok=True)
    write_document(run, RunDocument("run", {**usual, **named}))
    write_json(run / "status.json", {"state": state})


def write_audit(run: Path, *, copies: bool = False) -> None:
    membership = Membership(verdict="passed", reason="an AUC of 0.5")
    found = Copies(verdict="exceeded", reason="many") if copies else None
    (run / "diffusion").mkdir(exist_ok=True)
    write_json(run / "diffusion" / "audit.json", to_json(Audit(membership=membership, max_auc=0.65, copies=found)))


def going_on(run: Path) -> None:
    write_run(run, "running")


def failed(run: Path) -> None:
    write_run(run, "failed")


def without_the_task(run: Path) -> None:
    write_run(run, tasks="classification")


def damaged(run: Path) -> None:
    write_run(run)
    (run / "run.json").write_text('{"half')


def older(run: Path) -> None:
    write_run(run)
    document = json.loads((run / "run.json").read_text())
    del document["options"]["audit.copies-images"]
    write_json(run / "run.json", document)
    write_audit(run)


def asked_for_none(run: Path) -> None:
    write_run(run, audit__copies_images=0)
    write_audit(run)


def asked_for_no_audit(run: Path) -> None:
    write_run(run, audit__membership=False)


def of_hospitals(run: Path) -> None:
    write_run(run)
    write_audit(run, copies=True)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (going_on, "it was stopped before the audit; it can be resumed"),
        (failed, "it failed before the audit"),
        (without_the_task, r"it has no task diffusion \(its tasks: classification\)"),
        (damaged, "its run.json is damaged"),
        (older, "a version whose audit did not look for copies"),
        (asked_for_none, "its option 'audit.copies-images' asks for none"),
        (asked_for_no_audit, "its option 'audit.membership' asks for none"),
        (of_hospitals, "it is the run of hospitals"),
    ],
)
def test_the_cause_is_named_if_nothing_was_searched(tmp_path: Path, write: Callable[[Path], None], words: str) -> None:
    write(tmp_path / "run")
    result = show(tmp_path / "run")
    assert isinstance(result.exception, RunFolderError)
    assert re.search(f"holds no search for copies: .*{words}", str(result.exception))
    if not (tmp_path / "run" / "diffusion").exists():
        with pytest.raises(RunFolderError, match=f"holds no audit: {words}"):
            Run(tmp_path / "run").audit()


def test_a_run_that_still_trains_says_so(tmp_path: Path) -> None:
    going_on(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    try:
        result = show(tmp_path / "run")
        assert "it is still training" in str(result.exception)
        with pytest.raises(RunFolderError, match="until then its folder diffusion/samples shows galleries"):
            open_model(tmp_path / "run")
    finally:
        folder.unlock()
    with pytest.raises(RunFolderError) as caught:
        open_model(tmp_path / "run")
    assert "until then" not in str(caught.value)


def test_sampling_a_run_without_the_task_says_so(tmp_path: Path) -> None:
    without_the_task(tmp_path / "run")
    with pytest.raises(RunFolderError, match="no diffusion model, since it has no task diffusion"):
        open_model(tmp_path / "run")
