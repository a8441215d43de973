"""Names that are bound to keys: Flower's node id of a key stays, and another key's node cannot use the name."""

import signal
import subprocess
import sys
import tomllib

from fl_app.options.sections import OptionValue
from tests.faults.deployment import ROOT, SITES, Deployment, num_online, wait_until
from tests.faults.rounds import Run, small_classification


def print_sites(federation: Deployment) -> str:
    """Return what `fl-app sites` prints, as the option."""
    keys = [str(federation.hospital(site) / f"{site}.pub") for site in SITES]
    command = [sys.executable, "-m", "fl_app.cli", "sites", "hospitals", *keys]
    answer = subprocess.run(
        command, cwd=ROOT, env=federation.environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return str(tomllib.loads(answer.stdout)["sites"])


def test_a_node_that_claims_the_name_of_another_key_is_left_out_and_the_right_one_trains(
    federation: Deployment,
) -> None:
    sites = print_sites(federation)
    assert [one.partition("=")[2] for one in sites.split(",")] == list(SITES)
    federation.register("impostor")
    federation.send("north", signal.SIGTERM)
    federation.processes["north"].wait(timeout=30)
    federation.start_hospital("impostor", claims="north")
    federation.start_hospital_like_systemd("north")
    wait_until(lambda: num_online(federation) == len(SITES) + 1, "all are connected", federation.deadline_seconds)
    assert print_sites(federation) == sites, "a node id changed when the node was started again"

    bound: dict[str, OptionValue] = {"federation.sites": sites}
    status = Run(federation, small_classification(federation, "bound", num_rounds=1) | bound).wait_for_end()
    federation.send("impostor", signal.SIGTERM)
    federation.processes["impostor"].wait(timeout=30)
    assert status.state == "degraded"
    assert {site: status.nodes[site].contributed for site in SITES} == dict.fromkeys(SITES, 1)
    (impostor,) = status.nodes.keys() - {*SITES}
    assert "calls itself 'north', which 'federation.sites' gives to another node" in str(status.nodes[impostor].reason)
