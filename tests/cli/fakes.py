"""A tiny Flower app that keeps fl-app's contract with the run folder, and does what a test tells it to."""

from pathlib import Path

import psutil

MARK = "FL_APP_TEST_MARK"  # in the environment of a run's processes

_ROOT = Path(__file__).parents[2]

_HEAD = """
[project]
name = "fake-app"
version = "0.1.0"
description = "for tests"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "server_app:app"
clientapp = "client_app:app"

"""

_CLIENT = """
from flwr.app import Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    return Message(message.content, reply_to=message)
"""

_SERVER = """
import json
import os
import time
from pathlib import Path

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp

BEHAVIOUR = {behaviour!r}
app = ServerApp()


@app.main()
def main(grid, context):
    options = context.run_config
    folder = Path(options["output-dir"]) / options["run-name"]
    folder.mkdir(parents=True, exist_ok=True)
    status = {{"state": "running", "task": "diffusion", "round": 1, "num-rounds": 2, "folder": str(folder)}}
    save(folder, status)
    while len(nodes := sorted(grid.get_node_ids())) < options["federation.min-nodes"]:
        time.sleep(0.1)
    content = RecordDict({{"x": MetricRecord({{"a": 1.0}})}})
    replies = list(grid.send_and_receive([Message(content, dst_node_id=node, message_type="train") for node in nodes]))
    if any(reply.has_error() for reply in replies):
        raise RuntimeError("a client fell over")
    if BEHAVIOUR == "raise":
        raise RuntimeError("the server fell over")
    (folder / "replied").touch()
    time.sleep(600)


def save(folder, status):
    (folder / "status.tmp").write_text(json.dumps(status | {{"updated": time.time()}}))
    os.replace(folder / "status.tmp", folder / "status.json")
"""


def make_fake_app(folder: Path, behaviour: str) -> Path:
    """Write a Flower app with fl-app's own options whose server does `raise` or `wait`."""
    folder.mkdir()
    project = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    options = project[project.index("[tool.flwr.app.config]") : project.index("[tool.pytest")]
    (folder / "pyproject.toml").write_text(_HEAD + options, encoding="utf-8")
    (folder / "server_app.py").write_text(_SERVER.format(behaviour=behaviour), encoding="utf-8")
    (folder / "client_app.py").write_text(_CLIENT, encoding="utf-8")
    return folder


def find_marked(mark: str) -> list[list[str]]:
    """Return the command lines of all living processes with this mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found
