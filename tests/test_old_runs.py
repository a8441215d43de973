"""Runs of an earlier version: they are shown, drawn from, predicted with, and gone on with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fl_app import open_run
from fl_app.options.run import RunConfig
from fl_app.runs.overview import look_at
from tests.federation import run_federation

OLD = Path(__file__).parent / "old_runs"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_finished_run_is_shown_drawn_from_and_predicted_with(runs: Path) -> None:
    run = open_run(runs / "finished")
    overview = look_at(run.folder, 0.0)
    assert overview.progress.state == "completed" and overview.problems == []
    assert len(run.sample(["3"], 2, steps=2)) == 2
    answers = run.classifier().predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert len(answers.names) == 1
    assert {"linear", "lda"} <= set(run.heads()["head"])


def test_a_stopped_run_goes_on_and_ends_as_the_one_that_was_never_stopped(runs: Path) -> None:
    document = json.loads((runs / "stopped/run.json").read_text())
    options = document["options"] | {"output-dir": str(runs), "resume": str(runs / "stopped")}
    run_federation(RunConfig.from_flat(options), 2)
    status = json.loads((runs / "stopped/status.json").read_text())
    assert status["state"] == "completed", status["reason"]
    found, expected = (
        load_file(runs / name / "classification/model/model.safetensors") for name in ("stopped", "finished")
    )
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=1e-4)  # another processor adds in another order
    results = [
        json.loads((runs / name / "classification/prototypes/round-0002.json").read_text())
        for name in ("stopped", "finished")
    ]
    assert results[0]["shipped"]["head"] == results[1]["shipped"]["head"]
    assert np.isfinite(results[0]["shipped"]["accuracy"])
