"""What every test starts from: one torch thread, and no Flower service outside the test."""

import os

import pytest
import torch

from fl_app.flower import TaskIdentity

torch.set_num_threads(1)
os.environ.update(
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
)


@pytest.fixture(autouse=True)
def _task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the run and the node, as Flower's own processes do before an app is called."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
