"""Who does not belong: a hospital of another authority, a key that nobody registered."""

from fl_app.certificates import make_certificates, make_node_key
from tests.faults.deployment import SITES, Deployment, num_online, wait_until


def test_a_hospital_that_trusts_another_authority_does_not_connect(federation: Deployment) -> None:
    other = federation.hospital("stranger")
    make_certificates(other, ["localhost", "127.0.0.1"], 30)
    federation.register("stranger")
    federation.start_hospital("stranger", "--root-certificates", str(other / "ca.crt"))
    seconds = federation.deadline_seconds
    wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in federation.log("stranger"), "the certificate is refused", seconds)
    assert "SuperNode ID" not in federation.log("stranger")
    assert num_online(federation) == len(SITES)


def test_a_hospital_whose_key_nobody_registered_is_turned_away(federation: Deployment) -> None:
    make_node_key(federation.hospital("unknown"), "unknown")
    federation.start_hospital("unknown")
    assert federation.processes["unknown"].wait(timeout=federation.deadline_seconds) != 0
    assert "SuperNode ID" not in federation.log("unknown")
    assert num_online(federation) == len(SITES)
