"""Hospitals that approved one bundle and one study, in both isolations, beside one that approved nothing."""

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_app.options.sections import OptionValue
from fl_app.simulation.app import code_hash, write_app
from tests.faults.deployment import ROOT, SITES, Deployment, deployed, free_port, wait_until
from tests.faults.rounds import Run, small_classification

_STRICT = ("east", "north")  # in subprocess and in process isolation; south approves everything
_IMPATIENT: dict[str, OptionValue] = {"federation.wait-seconds": 60.0}  # a study leaves this to the server

_PROJECT = """
[project]
name = "fl-app"
version = "0.1.0"
description = "looks like fl-app"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fl-app"

[tool.flwr.app.components]
serverapp = "server_app:app"
clientapp = "client_app:app"

[tool.flwr.app.config]
answers = ""
"""
_SERVER = """
import json
import time
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    while len(nodes := sorted(grid.get_node_ids())) < 3:
        time.sleep(0.2)
    asked = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
    replies = grid.send_and_receive(asked, timeout=300)
    answers = [[reply.error.code, reply.error.reason] if reply.has_error() else None for reply in replies]
    Path(context.run_config["answers"]).write_text(json.dumps(answers))
"""
_CLIENT = """
from pathlib import Path

from flwr.app import Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message, context):
    Path(context.node_config["state-dir"], "precious").unlink()
    return Message(message.content, reply_to=message)
"""


def start_executor(federation: Deployment, site: str, port: int) -> None:
    """Start what runs a hospital's ClientApps in process isolation."""
    secret = federation.hospital(site) / "executor.secret"
    command = ["flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{port}"]
    command += ["--superexec-auth-secret-file", str(secret)]
    federation.start(f"{site}-executor", command, federation.hospital(f"{site}-executor"))


@pytest.fixture(scope="module")
def strict() -> Iterator[tuple[Deployment, dict[str, OptionValue]]]:
    """A federation, and the options of the study that the strict hospitals agreed to."""
    with tempfile.TemporaryDirectory(prefix="fl-app-approved-") as home, deployed(Path(home), ()) as federation:
        federation.deadline_seconds = 120.0
        options = small_classification(federation, "approved", 1)
        study = federation.home / "study.toml"
        study.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))
        approvals = ("--approved-code", code_hash(ROOT), "--study", str(study))
        for site in SITES:
            federation.register(site)
            (federation.hospital(site) / "state").mkdir(parents=True)
            (federation.hospital(site) / "state" / "precious").write_text("kept for years")
        federation.start_hospital("south")
        federation.start_hospital("east", *approvals)
        secret, port = federation.hospital("north") / "executor.secret", free_port()
        secret.write_text(secrets.token_hex(32))
        more = ("--isolation", "process", "--superexec-auth-secret-file", str(secret))
        federation.start_hospital("north", *approvals, *more, port=port)
        for site in SITES:
            wait_until(lambda site=site: "SuperNode ID" in federation.log(site), f"{site} is connected", 120)  # type: ignore[misc]
        start_executor(federation, "north", port)
        yield federation, options


def installed(federation: Deployment, name: str) -> list[Path]:
    """Find the code of runs that a hospital's processes have unpacked."""
    return sorted((federation.hospital(name) / "flower").glob("apps/*"))


def test_code_that_deletes_a_file_is_not_executed_where_it_is_not_approved(
    strict: tuple[Deployment, dict[str, OptionValue]],
) -> None:
    federation, _ = strict
    evil, answers = federation.home / "evil", federation.server / "answers.json"
    evil.mkdir()
    for name, text in (("pyproject.toml", _PROJECT), ("server_app.py", _SERVER), ("client_app.py", _CLIENT)):
        (evil / name).write_text(text)
    run = federation.submit({"answers": str(answers)}, evil)
    wait_until(answers.exists, "all nodes have answered", 400)
    wait_until(lambda: federation.flower_status(run) == "finished:completed", "the run has ended", 60)
    kept = [site for site in SITES if (federation.hospital(site) / "state" / "precious").exists()]
    assert kept == list(_STRICT), "south shows that the code does what it is meant to"
    found = json.loads(answers.read_text())
    refusals = [answer for answer in found if answer is not None]
    assert len(found) == 3 and len(refusals) == len(_STRICT)
    for code, reason in refusals:
        assert code == 7 and "approved code only: found SHA-256 " in reason and code_hash(ROOT)[:12] in reason
    assert [installed(federation, name) for name in ("east", "north", "north-executor")] == [[], [], []]
    assert len(installed(federation, "south")) == 1


def test_code_with_one_changed_byte_is_refused_and_the_run_says_so(
    strict: tuple[Deployment, dict[str, OptionValue]],
) -> None:
    federation, options = strict
    changed = federation.home / "changed"
    write_app(changed)
    client = changed / "client_app.py"
    written = client.read_bytes()
    client.write_bytes(written.replace(b"Flower's door", b"Flower's doom"))
    assert client.read_bytes() != written
    status = Run(federation, {**options, **_IMPATIENT, "run-name": "changed"}, changed).wait_for_end()
    assert status.state == "failed"
    assert str(status.reason).startswith(
        "1 of 3 nodes can take part: south. The others: this node executes approved code"
    )
    assert f"found SHA-256 {code_hash(changed)[:12]}…, approved {code_hash(ROOT)[:12]}…" in str(status.reason)
    assert installed(federation, "east") == installed(federation, "north-executor") == []


def test_the_approved_code_with_the_agreed_options_is_executed_in_both_isolations(
    strict: tuple[Deployment, dict[str, OptionValue]],
) -> None:
    federation, options = strict
    status = Run(federation, options).wait_for_end()
    assert status.state in ("completed", "degraded"), status
    assert {site: node.contributed for site, node in status.nodes.items()} == dict.fromkeys(SITES, 1)
    assert len(installed(federation, "east")) == len(installed(federation, "north-executor")) == 1


def test_the_approved_code_with_other_options_is_refused_by_name(
    strict: tuple[Deployment, dict[str, OptionValue]],
) -> None:
    federation, options = strict
    status = Run(federation, {**options, **_IMPATIENT, "run-name": "other", "data.limit": 20}).wait_for_end()
    assert status.state == "failed"
    for site in _STRICT:
        assert f"{site}: this hospital agreed to other options: 'data.limit' is 20, agreed was 0" in str(status.reason)
