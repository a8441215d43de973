"""Runs whose generated images are judged: what is written, and what sites can and cannot do about it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from fl_app import evaluation, passes
from fl_app.api.run import Run
from fl_app.data.images import ImageSet
from fl_app.data.loading import to_bytes
from fl_app.diffusion.pipeline import open_pipeline
from fl_app.diffusion.task import DiffusionTask
from fl_app.errors import FlAppError, RunFolderError
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.quality import QUALITY
from fl_app.metrics.generation import feature_sums, frechet_distance
from fl_app.node.images import load_pooled
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Pixels, set_features
from fl_app.quality.figure import Figure
from fl_app.quality.figures import as_frequent
from fl_app.runs.folder import Checkpoint, RunFolder
from fl_app.runs.quality import describe_quality, read_quality
from fl_app.strategies import transport
from tests.federation import Clock, run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

JUDGED: dict[str, OptionValue] = {"quality.num-images": 40, "quality.features": "pixels", "quality.usefulness": False}
BOTH: dict[str, OptionValue] = {**JUDGED, "tasks": "diffusion,classification", "quality.features": "pixels,classifier"}


def status(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "run/status.json").read_text())
    return found


def test_the_distance_of_a_federation_is_that_of_all_its_images_in_one_place(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, JUDGED)
    run_federation(config, 3)
    found = read_quality(tmp_path / "run")
    assert found is not None and status(tmp_path)["state"] == "completed"
    real = load_pooled(config, NodeConfig.from_flat({"partition-id": 0, "num-partitions": 3})).test
    classes = [label for label, n in enumerate(found.images_per_class.values()) for _ in range(n)]
    drawn = to_bytes(open_pipeline(tmp_path / "run/diffusion/model")(classes, seed=found.seed))
    generated = ImageSet(drawn, torch.tensor(classes), real.class_names)
    of_real, of_generated = (
        feature_sums(set_features(Pixels(), one, torch.device("cpu")), one.labels.numpy(), 10)
        for one in (real, generated)
    )
    whole = next(one for one in found.figures if one.class_name is None)
    assert whole.value == pytest.approx(frechet_distance(of_real, of_generated), rel=1e-9)
    assert (whole.num_real, whole.num_generated, whole.num_sites) == (len(real), 40, 3)


def test_figures_of_both_networks_and_of_labels_are_written_and_told(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, {**BOTH, "quality.usefulness": True}), 2)
    table = Run(tmp_path / "run").quality()
    assert set(table["features"]) == {"pixels", "classifier", ""}
    assert {"label-accuracy", "trained-on-synthetic", "trained-on-real", "trained-on-both"} <= set(table["name"])
    assert table[table["class-name"].isna()]["value"].notna().all()
    said = describe_quality(tmp_path / "run")
    assert said[0].startswith("generated images, 40, guidance 1, dpm-solver++ with 2 steps")
    assert any("trained on generated ones" in line for line in said)


def test_a_run_that_judges_nothing_asks_nobody_and_writes_nothing(tmp_path: Path) -> None:
    grid = run_federation(tiny_run(tmp_path), 2)
    assert QUALITY not in {message.metadata.message_type for message in grid.sent}
    assert not (tmp_path / "run/diffusion/quality.json").exists()


def test_a_resumed_run_is_not_judged_twice(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, JUDGED), 2)
    before = (tmp_path / "run/diffusion/quality.json").read_bytes()
    stopped = status(tmp_path) | {"state": "failed"}  # as if it had been stopped before its end
    (tmp_path / "run/status.json").write_text(json.dumps(stopped))
    grid = run_federation(tiny_run(tmp_path, {**JUDGED, "resume": str(tmp_path / "run")}), 2)
    assert QUALITY not in {message.metadata.message_type for message in grid.sent}
    assert (tmp_path / "run/diffusion/quality.json").read_bytes() == before


def _break(message: Message) -> Message:
    sums = unpack(message.content.array_records["statistics"])
    message.content["statistics"] = pack({**sums, "moments/count": sums["moments/count"] * 9})
    return message


@pytest.mark.parametrize(
    ("change", "outcome"), [(_break, "refused"), (lambda message: None, "late")], ids=["a lie", "silence"]
)
def test_a_site_that_lies_or_is_silent_is_left_out_of_the_figures_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Message], Message | None], outcome: str
) -> None:
    monkeypatch.setattr(transport, "time", Clock())

    def meddle(instruction: Message, reply: Message) -> Message | None:
        is_chosen = instruction.metadata.message_type == QUALITY and instruction.metadata.dst_node_id == 1000
        return change(reply) if is_chosen else reply

    run_federation(tiny_run(tmp_path, {**JUDGED, "federation.round-deadline-seconds": 5.0}), 3, meddle=meddle)
    found = read_quality(tmp_path / "run")
    assert found is not None and found.sites is not None
    assert found.sites["pixels"]["site-0"].outcome == outcome
    assert {one.num_sites for one in found.figures if one.class_name is None} == {2}
    assert status(tmp_path)["state"] == "degraded" and "site-0" in status(tmp_path)["reason"]


def test_a_judgement_that_fails_costs_the_run_nothing_but_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(evaluation, "_judge", fail)
    run_federation(tiny_run(tmp_path, JUDGED), 2)
    assert status(tmp_path)["state"] == "degraded"
    assert "the generated images could not be judged: RuntimeError" in status(tmp_path)["reason"]
    assert (tmp_path / "run/diffusion/model").is_dir()


def test_a_model_that_draws_nothing_finite_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(self: Any, classes: list[int], **more: Any) -> torch.Tensor:
        return torch.full((len(classes), 1, 8, 8), torch.nan)

    monkeypatch.setattr("fl_app.diffusion.pipeline.ClassConditionalPipeline.__call__", draw)
    run_federation(tiny_run(tmp_path, JUDGED), 2)
    assert describe_quality(tmp_path / "run") == [
        "generated images: not judged, since the model draws images that are not finite numbers"
    ]


def test_images_are_drawn_as_often_as_classes_are_tested_and_none_that_nobody_holds() -> None:
    counts = np.array([10, 20, 0, 5])
    assert np.bincount(classes_to_draw(counts, [True] * 4, 35), minlength=4).tolist() == [10, 20, 0, 5]
    assert np.bincount(classes_to_draw(counts, [True] * 4, 10), minlength=4).tolist() == [3, 6, 0, 1]
    assert np.bincount(classes_to_draw(counts, [False, True, True, True], 5), minlength=4).tolist() == [0, 4, 0, 1]
    assert len(classes_to_draw(counts * 0, [True] * 4, 10)) == 0


CURVE: dict[str, OptionValue] = {
    "quality.curve": "pixels",
    "quality.curve-images": 30,
    "gallery-every": 2,
    "diffusion.num-rounds": 5,
    "diffusion.ema-horizon": 0.0,
}


def distances(tmp_path: Path) -> dict[int, dict[str, float]]:
    return {line.round: line.drawn for line in RunFolder(tmp_path / "run").read_metrics() if line.drawn}


def test_images_are_judged_in_rounds_with_a_gallery_and_sites_asked_once_for_their_real_ones(
    tmp_path: Path,
) -> None:
    config = tiny_run(tmp_path, CURVE)
    grid = run_federation(config, 3)
    asked = [message for message in grid.sent if message.metadata.message_type == QUALITY]
    assert len(asked) == 3
    found = distances(tmp_path)
    assert list(found) == [2, 4, 5] and all(list(one) == ["raw"] for one in found.values())
    real = load_pooled(config, NodeConfig.from_flat({"partition-id": 0, "num-partitions": 3})).test
    classes = classes_to_draw(real.class_counts().numpy(), [True] * 10, 30).tolist()
    drawn = to_bytes(open_pipeline(tmp_path / "run/diffusion/model")(classes, seed=config.seed))
    generated = ImageSet(drawn, torch.tensor(classes), real.class_names)
    of_real, of_generated = (
        feature_sums(set_features(Pixels(), one, torch.device("cpu")), one.labels.numpy(), 11)
        for one in (real, generated)
    )
    assert found[5]["raw"] == pytest.approx(frechet_distance(of_real, as_frequent(of_generated, of_real)), rel=1e-9)


def test_a_run_that_goes_on_has_the_curve_of_one_that_was_never_stopped(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path / "whole", CURVE), 2)
    with pytest.raises(KeyboardInterrupt):
        run_federation(tiny_run(tmp_path / "stopped", CURVE), 2, meddle=_stop_in_round(4))
    grid = run_federation(tiny_run(tmp_path / "stopped", {**CURVE, "resume": str(tmp_path / "stopped/run")}), 2)
    assert QUALITY not in {message.metadata.message_type for message in grid.sent}
    assert distances(tmp_path / "stopped") == distances(tmp_path / "whole")


def _stop_in_round(number: int) -> Callable[[Message, Message], Message]:
    def meddle(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records.get("config")
        if instruction.metadata.message_type == "train" and config and config["server-round"] == number:
            raise KeyboardInterrupt
        return reply

    return meddle


@pytest.mark.parametrize("best", [2, 4, 5])
def test_the_round_with_the_best_images_may_be_the_one_that_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    values = iter({2: [1.0, 2.0, 3.0], 4: [3.0, 2.0, 2.5], 5: [3.0, 2.0, 1.0]}[best])
    monkeypatch.setattr(passes, "frechet_distance", lambda *sums: next(values))
    shown: dict[str, list[str]] = {}

    def show(_: object, models: dict[str, nn.Module], path: Path) -> None:
        shown[path.stem] = [*models]
        model, *_ = models.values()
        drawn[path.stem] = {key: value.numpy() for key, value in model.state_dict().items()}

    drawn: dict[str, dict[str, NDArray[np.generic]]] = {}
    monkeypatch.setattr(DiffusionTask, "show", show)
    run_federation(tiny_run(tmp_path, {**JUDGED, **CURVE, "quality.export": "best"}), 2)
    exported = open_pipeline(tmp_path / "run/diffusion/model").unet.state_dict()
    found = RunFolder(tmp_path / "run").best_drawn("diffusion")
    assert found is not None and found.round_number == best
    assert all(np.array_equal(exported[key].numpy(), value) for key, value in found.models["raw"].items())
    last = RunFolder(tmp_path / "run").last_checkpoint("diffusion")
    assert last is not None
    is_last = all(np.array_equal(exported[key].numpy(), value) for key, value in last.models["raw"].items())
    assert is_last == (best == 5)
    judged = read_quality(tmp_path / "run")
    assert judged is not None and judged.round == best
    assert shown["final"] == ["raw (used)" if best == 5 else f"raw of round {best} (used)"]  # the picture shows it, too
    assert all(np.array_equal(exported[key].numpy(), value) for key, value in drawn["final"].items())


def test_the_classifiers_accuracy_is_the_floor_of_its_share_and_a_damaged_exchange_costs_nothing_but_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(folder: Path) -> Figure:
        run_federation(tiny_run(folder, BOTH), 2)
        found = read_quality(folder / "run")
        assert found is not None and found.problem is None
        return next(one for one in found.figures if one.name == "label-accuracy")

    known = judge(tmp_path / "whole")
    assert known.floor is not None and known.num_real > 0

    def fail(path: Path) -> None:
        raise RunFolderError(f"{path} is damaged.")

    monkeypatch.setattr(evaluation, "read_exchange", fail)
    lost = judge(tmp_path / "damaged")
    assert (lost.value, lost.floor, lost.num_real) == (known.value, None, 0)


def test_a_run_of_one_round_has_no_curve_and_asks_nobody_for_one(tmp_path: Path) -> None:
    grid = run_federation(tiny_run(tmp_path, {**CURVE, "diffusion.num-rounds": 1, "quality.export": "best"}), 2)
    assert not distances(tmp_path) and (tmp_path / "run/diffusion/model").is_dir()
    assert QUALITY not in {message.metadata.message_type for message in grid.sent}


def test_features_of_a_file_are_measured_and_a_hospital_that_has_not_approved_it_is_named(tmp_path: Path) -> None:
    from torchvision import models

    torch.manual_seed(0)
    weights = models.shufflenet_v2_x0_5().state_dict()
    path = tmp_path / "network.safetensors"
    save_file(weights, path, {"architecture": "shufflenet_v2_x0_5"})
    options: dict[str, OptionValue] = {**JUDGED, "quality.features": "file", "quality.network-file": str(path)}
    options |= {"quality.num-images": 12}
    run_federation(tiny_run(tmp_path, options), 2)
    found = read_quality(tmp_path / "run")
    assert found is not None
    assert {(one.features, one.class_name) for one in found.figures} == {("file", None)}  # 1024 features: none by class
    assert all(one.value is not None for one in found.figures)


def test_a_feature_network_that_is_missing_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**JUDGED, "quality.features": "file", "quality.network-file": "/nowhere"}
    with pytest.raises(FlAppError, match="There is no feature network at /nowhere"):
        run_federation(tiny_run(tmp_path, options), 2)
    assert not (tmp_path / "run").exists()


def test_a_feature_network_of_the_curve_alone_is_looked_for_before_a_run_begins_and_one_without_use_is_not(
    tmp_path: Path,
) -> None:
    absent: dict[str, OptionValue] = {"quality.curve": "file", "quality.network-file": "/nowhere", "gallery-every": 1}
    both: dict[str, OptionValue] = {**absent, "tasks": "classification,diffusion", "quality.num-images": 0}
    with pytest.raises(FlAppError, match="There is no feature network at /nowhere"):
        run_federation(tiny_run(tmp_path, both), 2)
    assert not (tmp_path / "run").exists()
    without: dict[str, OptionValue] = {**absent, "tasks": "classification", "quality.features": "file"}
    run_federation(tiny_run(tmp_path, {**without, "quality.num-images": 8}), 2)
    assert (tmp_path / "run/classification/model").is_dir()


def test_a_run_goes_on_without_best_images_that_are_of_a_later_round_than_its_checkpoint(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**CURVE, "quality.export": "best"}
    with pytest.raises(KeyboardInterrupt):
        run_federation(tiny_run(tmp_path, options), 2, meddle=_stop_in_round(4))
    found = RunFolder(tmp_path / "run")
    last = found.last_checkpoint("diffusion")
    assert last is not None
    found.save_best_drawn("diffusion", Checkpoint(4, {"ema": last.models["raw"]}, {}, {}))
    run_federation(tiny_run(tmp_path, {**options, "resume": str(tmp_path / "run")}), 2)
    assert (tmp_path / "run/diffusion/model").is_dir()
