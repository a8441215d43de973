"""When a run counts as a success."""

import errno
import shutil
from pathlib import Path

import pytest

from fl_app.cli.run import report
from fl_app.files import write_json
from fl_app.runs.documents import RoundLine, RunStatus, SiteCounts
from fl_app.runs.folder import RunFolder, read_status
from fl_app.simulation.flower import FlowerStatus
from fl_app.simulation.follow import keep_log, write_end
from fl_app.simulation.outcome import Outcome, describe_comparison, judge

COMPLETED = FlowerStatus("finished:completed", "N/A")
FAILED = FlowerStatus("finished:failed", "Simulation failed with exception: boom")
FOLDER = Path("/runs/one")


def make_rounds(*losses: float) -> list[RoundLine]:
    return [
        RoundLine(task="diffusion", round=number, outcome="ok", train_loss=loss)
        for number, loss in enumerate(losses, start=1)
    ]


def test_completed_for_flower_and_the_server_is_a_success() -> None:
    status = RunStatus(state="completed", gallery="/runs/one/gallery.png")
    outcome = judge(COMPLETED, status, make_rounds(1.0, 0.5), FOLDER)
    assert outcome == Outcome("completed", None, {}, FOLDER, Path("/runs/one/gallery.png"))
    assert outcome.exit_status == 0


def test_a_degraded_run_is_a_success_that_names_the_sites() -> None:
    nodes = {
        "site0": SiteCounts(contributed=2),
        "site1": SiteCounts(failed=1, refused=1, reasons=("crash", "not finite")),
        "site2": SiteCounts(contributed=1, late=1),
    }
    outcome = judge(COMPLETED, RunStatus(state="degraded", nodes=nodes), make_rounds(1.0, 0.5), FOLDER)
    assert outcome.state == "degraded"
    assert outcome.exit_status == 0
    assert outcome.sites == {"site1": "1 failed, 1 refused: not finite", "site2": "1 late"}


@pytest.mark.parametrize(
    ("flower", "status", "losses", "reason"),
    [
        (FAILED, RunStatus(state="failed", reason="no nodes came"), [], "no nodes came"),
        (COMPLETED, RunStatus(state="failed"), [1.0, 0.5], "the server gave no reason"),
        (
            FAILED,
            RunStatus(state="running"),
            [1.0, 0.5],
            "Flower says 'finished:failed': Simulation failed with exception: boom",
        ),
        (FAILED, None, [], "Flower says 'finished:failed': Simulation failed with exception: boom"),
        (FlowerStatus("not started", ""), None, [], "Flower says 'not started': see the log"),
        (COMPLETED, None, [], "the server wrote no status.json"),
        (COMPLETED, RunStatus(state="running"), [1.0, 0.5], "the server stopped while 'running'"),
        (COMPLETED, RunStatus(state="completed"), [], "no round counted, so nothing was learned"),
    ],
)
def test_anything_else_is_a_failure_with_its_reason(
    flower: FlowerStatus, status: RunStatus | None, losses: list[float], reason: str
) -> None:
    outcome = judge(flower, status, make_rounds(*losses), None)
    assert outcome.state == "failed"
    assert outcome.reason == reason
    assert outcome.exit_status == 1


def test_the_last_lines_name_outcome_folder_and_gallery(capsys: pytest.CaptureFixture[str]) -> None:
    report(Outcome("completed", None, {}, FOLDER, FOLDER / "gallery.png"), "the log", 143.2)
    captured = capsys.readouterr()
    assert captured.out == "outcome: completed\ntime: 2:23\nrun folder: /runs/one\ngallery: /runs/one/gallery.png\n"
    assert captured.err == ""


def test_a_failure_is_reported_with_the_end_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    report(Outcome("failed", "boom", {"site1": "1 failed"}), "the log", 143.2)
    captured = capsys.readouterr()
    assert captured.err == "the log\n\nThe run failed: boom\n  site1: 1 failed\n"
    assert captured.out == "outcome: failed\ntime: 2:23\nrun folder: none\ngallery: none\n"


def test_a_degraded_run_is_reported_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    report(Outcome("degraded", None, {"site1": "1 late"}, FOLDER), "the log", 143.2)
    assert "Warning: the run is degraded, sites with trouble: site1\n  site1: 1 late\n" in capsys.readouterr().err


def test_a_run_with_a_classifier_ends_with_what_each_approach_reached(tmp_path: Path) -> None:
    (tmp_path / "classification").mkdir()
    table = tmp_path / "classification/comparison.csv"
    table.write_text(
        "approach,reading,head,images,n,accuracy,auc,home-n,home-accuracy\n"
        "FedAvg,global,linear,test,99,0.6123,not defined,10,0.5\n"
        "FedAvg + prototypes,consistent,cosine,test,99,0.65,0.5,,\n"
        "FedAvg + prototypes (ships),consistent,lda,test,98,0.7,0.81,,\n"
    )
    assert describe_comparison(tmp_path) == [
        "classifiers, on 99 test images:",
        "  FedAvg (linear): accuracy 0.612, auc not defined",
        "  FedAvg + prototypes (ships) (lda): accuracy 0.700, auc 0.810 (on 98 images)",
        f"comparison: {table}",
    ]


def test_where_a_node_alone_is_measured_at_home_only_that_is_said_and_not_mixed_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "classification").mkdir()
    (tmp_path / "classification/comparison.csv").write_text(
        "approach,reading,head,images,n,accuracy,auc,home-n,home-accuracy\n"
        "each node alone,local,linear,test,not measured,not measured,not measured,40,0.9\n"
        "FedAvg (ships),global,linear,test,40,0.7,0.8,40,0.7\n"
    )
    assert describe_comparison(tmp_path)[:3] == [
        "classifiers, on 40 test images:",
        "  each node alone (linear): not measured; home accuracy 0.900 on 40 images",
        "  FedAvg (ships) (linear): accuracy 0.700, auc 0.800",
    ]


def test_without_a_test_set_no_figure_of_a_chosen_head_is_told(tmp_path: Path) -> None:
    (tmp_path / "classification").mkdir()
    (tmp_path / "classification/comparison.csv").write_text(
        "approach,reading,head,images,n,accuracy,auc,home-n,home-accuracy\n"
        "FedAvg,global,linear,no test set,,,,10,0.5\n"
        "FedAvg + prototypes (ships),consistent,lda,no test set,,,,,\n"
    )
    assert describe_comparison(tmp_path)[:3] == [
        "classifiers, no test set; home: on the nodes' own held-out images:",
        "  FedAvg (linear): no test set; home accuracy 0.500 on 10 images",
        "  FedAvg + prototypes (ships) (lda): no test set",
    ]


def test_a_run_without_a_classifier_compares_nothing(tmp_path: Path) -> None:
    assert describe_comparison(tmp_path) == []


def test_a_disk_without_room_for_the_log_does_not_hide_what_became_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "flower.log").write_text("a line")
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    keep_log(tmp_path / "flower.log", tmp_path)
    assert capsys.readouterr().err == f"The log cannot be kept in {tmp_path / 'flower.log'}: No space left on device.\n"


def test_the_end_of_a_second_start_is_not_written_into_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    write_json(folder.options_file, {})
    write_json(folder.status_file, {"state": "running"})
    folder.lock()
    write_end(folder.path, "stopped; it can be resumed")
    assert read_status(folder).state == "running"
    folder.unlock()
    write_end(folder.path, "stopped; it can be resumed")
    assert read_status(folder).state == "failed"
