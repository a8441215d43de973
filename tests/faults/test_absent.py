"""A federation where one site never comes: it says so, stops, and goes on as soon as the coordinator decides."""

from tests.faults.deployment import SITES, Deployment
from tests.faults.rounds import Run, small_classification


def test_a_run_whose_fourth_site_never_comes_stops_and_is_resumed_without_it(federation: Deployment) -> None:
    options = small_classification(federation, "absent", num_rounds=2)
    waiting = Run(federation, {**options, "federation.min-nodes": 4})
    status = waiting.wait_for_end()
    assert status.state == "failed"
    assert str(status.reason).startswith("3 of 4 nodes connected within ")
    assert str(status.reason).split(". ")[0].endswith(" s: east, north, south")
    assert federation.flower_status(waiting.id) == "finished:failed"

    resumed = Run(federation, {**options, "resume": str(waiting.folder.path)})
    status = resumed.wait_for_end()
    assert status.state == "completed" and not status.reason
    assert federation.flower_status(resumed.id) == "finished:completed"
    assert {site: node.contributed for site, node in status.nodes.items()} == dict.fromkeys(SITES, 2)
    for site in SITES:
        received = federation.log(site).count("Receiving: train message")
        assert received == 2, f"{site} got {received} messages for 2 rounds"
