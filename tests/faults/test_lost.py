"""Hospitals that are lost for good: the run goes on with a quorum, waits below it, and says whom it misses."""

import signal

from tests.faults.deployment import Deployment, running, wait_until
from tests.faults.rounds import Run, small_classification


def test_one_of_three_lost_in_the_first_round_costs_no_round(federation: Deployment) -> None:
    run = Run(federation, small_classification(federation, "lost", num_rounds=3) | {"federation.min-replies": 0})
    assert run.begin_round() == 1
    wait_until(lambda: running(federation, "south", "flwr-clientapp"), "south has its task", run.patience_seconds)
    federation.send("south", signal.SIGKILL)
    status = run.wait_for_end()
    lines = run.folder.read_metrics()
    assert [line.outcome for line in lines] == ["ok"] * 3
    for line in lines:
        assert {site for site, node in line.nodes.items() if node.outcome == "contributed"} == {"east", "north"}
    assert status.state == "degraded"
    assert str(status.reason).startswith("south ") and "(first: round 1 of classification, 20" in str(status.reason)
    assert "Node Unavailable" not in str(status)
    assert (run.folder.path / "classification/model").is_dir()
    assert "classification round 3/3: 2 of 2 nodes contributed" in (run.folder.path / "run.log").read_text()


def test_with_two_gone_the_run_waits_says_for_whom_and_stops_resumable(federation: Deployment) -> None:
    options = small_classification(federation, "quorum", num_rounds=3)  # south is away still
    options |= {
        "federation.min-replies": 0,
        "federation.min-nodes": 2,
        "federation.wait-seconds": 45.0,
    }  # south is away
    run = Run(federation, options)
    number = run.begin_round()
    federation.send("north", signal.SIGTERM)
    federation.processes["north"].wait(timeout=10)  # one signal is enough
    wait_until(
        lambda: run.status.state == "waiting" and str(run.status.reason).endswith("; missing: north"),
        "the run waits for north",
        2 * run.patience_seconds,
    )
    status = run.wait_for_end()
    assert status.state == "failed"
    assert str(status.reason).startswith("1 of 2 sites connected within 45 s: east; missing: north. Start the missing")
    assert str(status.reason).endswith(f'The run can be resumed with resume = "{run.folder.path}".')

    federation.start_hospital_like_systemd("north")
    resumed = Run(federation, {**options, "resume": str(run.folder.path)})
    assert resumed.wait_for_end().state == "degraded"
    lines = run.folder.read_metrics()
    assert [line.round for line in lines] == [1, 2, 3]
    assert [line.outcome for line in lines[number:]] == ["ok"] * (3 - number)


def test_the_lost_hospital_may_come_back(federation: Deployment) -> None:
    federation.start_hospital_like_systemd("south")
    assert federation.processes["south"].poll() is None
