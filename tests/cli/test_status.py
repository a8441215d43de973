"""What a coordinator is told of live, finished and broken runs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.runs import make_table as list_table
from fl_app.cli.status import ask_flower, describe, describe_flower, make_table
from fl_app.errors import FlAppError, RunFolderError
from fl_app.files import to_json
from fl_app.metrics.audited import Membership
from fl_app.runs.audit import Audit
from fl_app.runs.documents import SiteCounts
from fl_app.runs.folder import RunFolder
from fl_app.runs.overview import age, find_run, look_at

RUNNING = {
    "state": "running",
    "task": "diffusion",
    "round": 2,
    "num-rounds": 5,
    "asked": ["north", "south", "west"],
    "replied": ["north"],
    "failed": {"west": "out of memory"},
    "updated": 1000.0,
    "nodes": {"north": {"contributed": 1}, "west": {"contributed": 0, "failed": 2, "reasons": ["old", "new"]}},
}
ROUND = {
    "task": "diffusion",
    "round": 1,
    "outcome": "ok",
    "train-loss": 0.25,
    "validation-loss": 0.5,
    "seconds": 10.0,
    "nodes": {"north": {"outcome": "contributed", "reason": None}, "west": {"outcome": "late", "reason": "slow"}},
}


def make_run(folder: Path, status: dict[str, Any] | None = None, rounds: int = 1) -> Path:
    folder.mkdir(parents=True)
    images = {"train": [20, 12], "validation": [3, 1], "test": [5, 2]}
    (folder / "run.json").write_text(json.dumps({"run-name": "run", "options": {}, "nodes": {"north": images}}))
    (folder / "metrics.jsonl").write_text(f"{json.dumps(ROUND)}\n" * rounds)
    if status is not None:
        (folder / "status.json").write_text(json.dumps(status))
    return folder


def test_a_live_run_names_who_is_awaited_and_who_failed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    lock = RunFolder(folder)
    lock.lock()
    overview = look_at(folder, 1012.0)
    lock.unlock()
    assert describe(overview) == [
        f"run folder: {folder}",
        "state: training diffusion (written 12 s ago)",
        "round: 2 of 5 of diffusion, about 0:40 left",
        "this round: 1 replied, 1 failed, awaiting south",
        "  west: out of memory",
        "last figures: training loss 0.2500, validation loss 0.5000",
    ]
    assert overview.sites["west"] == SiteCounts(failed=2, reasons=("old", "new"))


@pytest.mark.parametrize("times", [0, 3])
def test_a_site_without_images_has_its_replies_in_a_column_of_their_own(times: int, tmp_path: Path) -> None:
    nodes = {"north": {"contributed": 3}, "south": {"empty": times}}
    table = make_table(look_at(make_run(tmp_path / "run", {"state": "completed", "nodes": nodes}), 1000.0))
    found = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert found.get("empty") == (["0", "3"] if times else None)
    assert found["contributed"] == ["3", "0"] and found["absent"] == ["0", "0"]


def test_looking_does_not_keep_a_server_from_its_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    look_at(folder, 1000.0)
    server = RunFolder(folder)
    server.lock()
    assert look_at(folder, 1000.0).is_alive
    server.unlock()


def test_a_run_whose_server_was_killed_is_told_from_a_live_one(tmp_path: Path) -> None:
    overview = look_at(make_run(tmp_path / "run", RUNNING), 1000.0)
    assert overview.is_alive is False
    assert overview.problems == ["no server works on this run any more: it was killed, and can be resumed"]
    assert "left" not in describe(overview)[3]


def test_a_finished_run_has_no_problems_and_no_round_going_on(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {**RUNNING, "state": "degraded", "reason": "west 2 times failed"})
    overview = look_at(folder, 1000.0)
    assert not overview.problems
    assert describe(overview)[1].startswith("state: degraded: west 2 times failed")
    assert not any(line.startswith("this round") for line in describe(overview))


def test_the_audit_of_a_model_is_told_in_a_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {**RUNNING, "state": "completed"})
    assert not any(line.startswith("membership audit") for line in describe(look_at(folder, 1000.0)))
    found = Membership(verdict="passed", reason="AUC 0.51", num_train=30, num_held_out=20)
    (folder / "diffusion").mkdir(exist_ok=True)
    (folder / "diffusion" / "audit.json").write_text(json.dumps(to_json(Audit(membership=found, max_auc=0.65))))
    counted = "30 training, 20 held-out and 0 test images of 0 sites"
    line = f"membership audit: passed: AUC 0.51 ({counted}). Copies were not searched"
    assert line in describe(look_at(folder, 1000.0))


@pytest.mark.parametrize("text", ["", "[]", '{"state": "runn'])
def test_a_damaged_status_is_told_and_the_sites_come_from_the_rounds(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path / "run", rounds=3)
    (folder / "status.json").write_text(text)
    overview = look_at(folder, 1000.0)
    assert overview.state == "unknown" and "starting" not in " ".join(describe(overview))
    assert describe(overview)[1:3] == [
        "state: unknown: status.json is damaged",
        "problem: status.json is damaged: whether the run has finished is not known. Resume the run: it keeps what is "
        "finished and does the rest",
    ]
    assert list(list_table([overview]).columns[1].cells) == ["unknown"]
    assert overview.sites["north"].contributed == 3
    assert (overview.sites["west"].late, overview.sites["west"].reason) == (3, "slow")


def test_a_damaged_status_of_a_live_run_is_left_to_its_server(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "status.json").write_text("{")
    server = RunFolder(folder)
    server.lock()
    (problem,) = look_at(folder, 1000.0).problems
    server.unlock()
    assert "Its server is at work" in problem and "Resume" not in problem


@pytest.mark.parametrize(
    ("status", "state"), [(None, "stopped while starting Flower"), (RUNNING, "stopped while training diffusion")]
)
def test_status_and_runs_say_the_same_of_a_run_that_no_server_works_on(
    status: dict[str, Any] | None, state: str, tmp_path: Path
) -> None:
    overview = look_at(make_run(tmp_path / "run", status), 1000.0)
    assert describe(overview)[1].startswith(f"state: {state}")
    assert list(list_table([overview]).columns[1].cells) == ["stopped"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", {**RUNNING, "nodes": {"north": {"contributed": 1, "reasons": 5}}}),
        ("status.json", {**RUNNING, "nodes": {"north": {"contributed": "often"}}}),
        ("run.json", {"run-name": "run", "options": {}, "flower-runs": 5}),
        ("run.json", {"run-name": "run", "options": {}, "nodes": {"north": {"train": 3}}}),
        ("run.json", ["run"]),
    ],
)
def test_json_of_another_shape_is_damage_that_is_told(tmp_path: Path, name: str, content: object) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    (folder / name).write_text(json.dumps(content))
    overview = look_at(folder, 1000.0)
    assert any(f"{name} is damaged" in problem for problem in overview.problems)
    make_table(overview)


def test_damaged_lines_of_metrics_are_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('null\n{"task": 5}\n{"nodes": {"north": 1}}\n')
    damage = "3 lines of metrics.jsonl are damaged: the figures of these rounds are lost"
    assert damage in look_at(folder, 1000.0).problems


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl", "run.json"])
def test_whatever_bit_is_flipped_the_run_is_described(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    content = (folder / name).read_bytes()
    for position in range(0, 8 * len(content), 29):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        (folder / name).write_bytes(damaged)
        overview = look_at(folder, 1000.0)
        assert describe(overview) and make_table(overview) and json.dumps(overview.to_json())


def test_a_run_that_never_got_far_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=0)
    (folder / "metrics.jsonl").unlink()
    assert look_at(folder, 1000.0).problems == ["status.json was never written"]


def test_the_newest_run_is_the_default(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "c", "a")):
        os.utime(make_run(tmp_path / name) / "run.json", (number, number))
    assert find_run(None, tmp_path).name == "a"
    assert find_run(Path("c"), tmp_path).name == "c"
    assert find_run(tmp_path / "b", Path("elsewhere")).name == "b"


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="There is no run in"):
        find_run(None, tmp_path)
    with pytest.raises(RunFolderError, match=r"^No run '"):
        find_run(Path("x"), tmp_path)


def test_json_holds_the_same(tmp_path: Path) -> None:
    make_run(tmp_path / "run", RUNNING)
    answer = CliRunner().invoke(app, ["status", "--runs", str(tmp_path), "--json"])
    found = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert found["progress"]["num-rounds"] == 5
    counts = dict.fromkeys(("contributed", "empty", "refused", "late", "absent"), 0)
    assert found["sites"]["west"] == counts | {"failed": 2, "reason": "new"}


def test_the_command_shows_a_row_for_each_site(tmp_path: Path) -> None:
    make_run(tmp_path / "run", RUNNING)
    answer = CliRunner().invoke(app, ["status", "--runs", str(tmp_path)])
    assert answer.exit_code == 0
    assert "north  1 " in answer.stdout and "32/4/7" in answer.stdout
    assert "west   0 " in answer.stdout and "-/-/-" in answer.stdout


def test_what_the_superlink_says_is_summed_up() -> None:
    runs = [{"run-id": str(n), "status": "running", "status-details": "N/A", "pending-at": f"{n}"} for n in range(5)]
    runs[4] |= {"status": "finished:failed", "status-details": "it broke"}
    nodes = [{"status": "online"}, {"status": "online"}, {"status": "offline"}]
    assert describe_flower({"runs": runs, "nodes": nodes}) == [
        "SuperLink: nodes: 1 offline, 2 online",
        "SuperLink: run 4 is finished:failed: it broke",
        "SuperLink: run 3 is running",
        "SuperLink: run 2 is running",
    ]
    assert describe_flower({"runs": runs, "nodes": nodes}, ("1", "7"))[1:] == ["SuperLink: this run 1 is running"]


def test_a_superlink_that_does_not_answer_leaves_the_run_folder_to_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", RUNNING)
    refusal = json.dumps({"success": False, "error-message": "Using SuperLink: x\nConnection is unavailable."})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, refusal, ""))
    answer = CliRunner().invoke(app, ["status", "--runs", str(tmp_path), "--connection", "x"])
    assert answer.exit_code == 0
    assert "SuperLink: Flower's answer about 'x': Connection is unavailable." in answer.stdout


def test_flower_itself_is_asked_and_an_unknown_connection_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    with pytest.raises(FlAppError, match="Flower's answer about 'nowhere'"):
        ask_flower("nowhere", "ls")


def test_ages_are_rough() -> None:
    assert [age(5), age(150), age(7300), age(200000)] == ["5 s", "2 minutes", "2 hours", "2 days"]
