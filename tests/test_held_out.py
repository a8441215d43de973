"""The table by which settings are chosen."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.held_out import measure
from fl_app.errors import RunFolderError


def _write(folder: Path, aucs: dict[tuple[str, str, str], float | None], shipped: str = "lda") -> Path:
    model = folder / "classification" / "model" / "model.json"
    model.parent.mkdir(parents=True)
    results = [
        {
            "part": part,
            "reading": reading,
            "head": head,
            "figures": {"n": 78, "accuracy": 0.5, "balanced-accuracy": 0.5, "auc": auc},
        }
        for (part, reading, head), auc in aucs.items()
    ]
    text = json.dumps({"shipped": shipped, "reading": "consistent", "record": {"results": results}})
    model.write_text(text, encoding="utf-8")
    return folder


def _aucs(shipped: float | None, linear: float) -> dict[tuple[str, str, str], float | None]:
    """Figures of which only the shipped head's and the own layer's on held-out images may count."""
    return {
        ("validation", "global", "linear"): linear,
        ("validation", "local", "lda"): 0.1,
        ("validation", "consistent", "lda"): shipped,
        ("validation", "consistent", "cosine"): 0.2,
        ("test", "consistent", "lda"): 0.3,
        ("test", "global", "linear"): 0.4,
    }


def test_a_setting_is_judged_by_the_shipped_head_on_held_out_images_and_the_mean_of_its_seeds(tmp_path: Path) -> None:
    runs = [
        _write(tmp_path / "adam-seed-100", _aucs(0.8, 0.7)),
        _write(tmp_path / "adam-seed-101", _aucs(0.9, 0.6)),
        _write(tmp_path / "sgd-seed-100", _aucs(None, 0.5)),
    ]
    rows = measure(argparse.Namespace(runs=[*runs, tmp_path / "adam-seed-100.log"]))
    assert [(row["run"], row["auc"]) for row in rows[:3]] == [
        ("adam-seed-100", 0.8),
        ("adam-seed-101", 0.9),
        ("sgd-seed-100", None),
    ]
    adam, sgd = rows[3:]
    assert (adam["run"], adam["n"]) == ("adam, mean of 2", 78)
    assert (adam["auc"], adam["auc, linear"]) == pytest.approx((0.85, 0.65))
    assert (sgd["auc"], sgd["auc, linear"]) == (None, 0.5)


def test_a_run_without_a_classifier_is_named(tmp_path: Path) -> None:
    (tmp_path / "stopped-seed-1").mkdir()
    with pytest.raises(RunFolderError, match="stopped-seed-1 holds no exported classifier"):
        measure(argparse.Namespace(runs=[tmp_path / "stopped-seed-1"]))
