"""What happens to hospitals and servers in the middle of a run; each test takes the next round of the same run."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fl_app.runs.documents import RoundLine
from tests.faults.deployment import SITES, Deployment, descendants, num_online, running, wait_until
from tests.faults.images import CANARY, find_private
from tests.faults.rounds import Run, small_classification

_ROUNDS = 18  # the tests below need no more


@pytest.fixture(scope="module")
def run(federation: Deployment) -> Run:
    """The run whose rounds the tests spoil; a hospital that misses the first one still sends all sums."""
    return Run(federation, small_classification(federation, "faults", _ROUNDS) | {"late-joining": True})


def outcomes(line: RoundLine) -> dict[str, str]:
    return {site: node.outcome for site, node in line.nodes.items()}


def fails_alone(site: str, outcome: str = "failed") -> dict[str, str]:
    """Return the outcomes of a round in which one site did not contribute."""
    return dict.fromkeys(SITES, "contributed") | {site: outcome}


def all_contribute(run: Run) -> None:
    """Make sure that the next whole round has everybody again."""
    assert outcomes(run.end_round(run.begin_round())) == dict.fromkeys(SITES, "contributed")


def test_a_lost_mount_costs_the_hospital_that_round(federation: Deployment, run: Run) -> None:
    folder = federation.folders["east"]
    number = run.begin_round()
    folder.rename(folder.with_suffix(".away"))
    try:
        line = run.end_round(number)
    finally:
        folder.with_suffix(".away").rename(folder)
    assert outcomes(line) == fails_alone("east")
    assert line.nodes["east"].reason == "the data folder does not exist"
    wait_until(lambda: "east" in run.status.nodes, "status.json counts the round", 30)
    (reason,) = run.status.nodes["east"].reasons
    assert reason.startswith(f"round {number} of classification, 20")
    assert reason.endswith(": the data folder does not exist")


def test_a_broken_image_is_named_at_the_hospital_and_not_at_the_server(federation: Deployment, run: Run) -> None:
    broken = federation.folders["north"] / "one" / f"{CANARY}-broken.png"
    number = run.begin_round()
    broken.write_bytes(b"\x89PNG no more")
    try:
        line = run.end_round(number)
    finally:
        broken.unlink()
    assert outcomes(line) == fails_alone("north")
    reason = str(line.nodes["north"].reason)
    assert reason.startswith("1 of ") and reason.endswith("is missing or broken, more than this node allows")
    assert broken.name in federation.log("north")


def test_a_hospital_that_sends_nan_changes_nothing(federation: Deployment, run: Run) -> None:
    switch = federation.hospital("south") / "nan"
    number = run.begin_round()
    switch.touch()
    try:
        line = run.end_round(number)
    finally:
        switch.unlink()
    assert outcomes(line) == fails_alone("south", "refused")
    assert "not finite" in str(line.nodes["south"].reason)
    assert line.outcome == "ok" and line.train_loss is not None


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Put a disk of 24 kB in the place of a folder, with the key and the memory of images in it; only root may."""
    kept = {path.name: path.read_bytes() for pattern in ("split-key@*", "used@*") for path in folder.glob(pattern)}
    command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    try:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_hospital_without_room_for_its_state_contributes_and_leaves_no_half_file(
    federation: Deployment, run: Run
) -> None:
    state = federation.hospital("north") / "state"
    number = run.begin_round()
    with full_disk(state):
        line = run.end_round(number)
        beside = ("images@cache", "counts@north")  # the images, and a byte for each round
        left = [path.name for path in state.rglob("*") if path.is_file() and path.parent.name not in beside]
    assert outcomes(line) == dict.fromkeys(SITES, "contributed")
    assert "No space left on device" in federation.log("north")
    assert sorted(name.partition("@")[0] for name in left) == ["sent", "split-key", "used"]  # a line still fits


def test_a_hospital_that_trusts_signed_code_only_refuses_and_the_others_go_on(federation: Deployment, run: Run) -> None:
    home = federation.hospital("strict")
    federation.register("strict")
    trusted = home / "trusted.yaml"
    signer = Ed25519PrivateKey.generate().public_key()
    trusted.write_text(f"fpk_1: {signer.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}\n")
    federation.start_hospital("strict", "--trusted-entities", str(trusted))
    wait_until(
        lambda: "FAB could not be verified" in federation.log("strict"), "the code is refused", run.patience_seconds
    )
    number = run.begin_round()
    line = run.end_round(number)
    federation.send("strict", signal.SIGTERM)
    federation.processes["strict"].wait(timeout=federation.deadline_seconds)
    wait_until(lambda: num_online(federation) == len(SITES), "the strict node is gone", run.patience_seconds)
    run.end_round(run.begin_round())  # it may have been asked in this one still
    (found,) = [node for site, node in line.nodes.items() if site.startswith("node-")]
    assert (found.outcome, found.reason) == (
        "failed",
        "it does not trust this run's code: no known signature",
    )
    assert {site: outcomes(line)[site] for site in SITES} == dict.fromkeys(SITES, "contributed")


def test_a_hospital_slower_than_the_deadline_is_late_and_comes_back(federation: Deployment, run: Run) -> None:
    number = run.begin_round()
    stopped = descendants(federation, "south")
    for process in stopped:
        process.suspend()
    try:
        line = run.end_round(number)
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):  # it had ended before it was stopped, and is buried now
                process.resume()
    found = line.nodes["south"]
    assert outcomes(line) == fails_alone("south", found.outcome)
    if federation.deadline_seconds < 100:  # else Flower itself gives the process up first, as `failed`
        assert (found.outcome, found.reason) == ("late", f"no reply within {federation.deadline_seconds:g} s")
    assert found.outcome in ("late", "failed")
    all_contribute(run)


def test_a_killed_hospital_costs_a_round_and_returns(federation: Deployment, run: Run) -> None:
    number = run.begin_round()
    wait_until(lambda: running(federation, "north", "flwr-clientapp"), "north has its task", run.patience_seconds)
    federation.send("north", signal.SIGKILL)
    line = run.end_round(number)
    assert outcomes(line) in (fails_alone("north"), fails_alone("north", "late"))
    assert line.nodes["north"].reason
    federation.start_hospital_like_systemd("north")
    run.end_round(run.begin_round())  # it may have come too late for this one
    all_contribute(run)


def test_a_killed_superlink_goes_on_with_the_round(federation: Deployment, run: Run) -> None:
    number = run.begin_round()
    federation.send("superlink", signal.SIGKILL)
    federation.start_superlink()
    line = run.end_round(number)
    assert line.outcome == "ok"
    all_contribute(run)
    assert federation.flower_status(run.id) == "running"


def test_a_killed_server_app_is_resumed_and_the_run_says_at_its_end_what_happened(
    federation: Deployment, run: Run
) -> None:
    number = run.begin_round()
    (server_app,) = running(federation, "executor", "flwr-serverapp")
    os.kill(server_app.pid, signal.SIGKILL)
    lines = run.folder.read_metrics()
    assert len(lines) == number - 1
    resumed = Run(federation, {**run.options, "resume": str(run.folder.path)})
    status = resumed.wait_for_end()
    assert status.state == "degraded", status
    assert [line.round for line in run.folder.read_metrics()] == list(range(1, _ROUNDS + 1))
    assert run.folder.read_metrics()[: number - 1] == lines
    for site in SITES:
        counted = [line.nodes[site].outcome if site in line.nodes else None for line in run.folder.read_metrics()]
        for outcome in ("contributed", "refused", "failed", "late"):  # `absent` is counted in the exchange, too
            assert getattr(status.nodes[site], outcome) == counted.count(outcome)
    assert (run.folder.path / "classification/model").is_dir()
    assert federation.flower_status(resumed.id) == "finished:completed"


def test_nothing_of_a_patient_is_in_any_file_of_the_server(federation: Deployment, run: Run) -> None:
    assert CANARY in federation.log("north")  # where it may be
    assert "classification, round 1 of 18" in federation.log("south")  # a hospital's log says what it was asked
    assert (federation.server / "state.db").stat().st_size > 0
    assert find_private(federation.server, list(federation.folders.values())) == []


def test_nothing_is_half_written(federation: Deployment, run: Run) -> None:
    everywhere = [federation.server, *(federation.hospital(site) for site in SITES)]
    assert [str(path) for root in everywhere for path in root.rglob("*.partial*")] == []
