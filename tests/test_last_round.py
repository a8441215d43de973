"""Whole classification federations in one process: prototypes, readings, baselines, and who fails in the last round."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, Message
from PIL import Image
from safetensors.torch import load_file

from fl_app.classification.heads import build_heads
from fl_app.classification.model import read_classifier
from fl_app.classification.moments import measure_moments
from fl_app.classification.prediction import classify
from fl_app.data.sources import dataset_info
from fl_app.errors import FederationError, OptionError
from fl_app.messages.arrays import pack, unpack
from fl_app.node.images import load_local, load_pooled
from fl_app.node.training import Progress, train_local
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.seeding import generator_for
from fl_app.tasks import build_task, initial_weights
from tests.federation import LocalGrid, run_federation
from tests.options import NO_MINIMUMS
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

ALL = "consistent,piggyback,local"
Row = dict[str, Any]


def classification(tmp_path: Path, overrides: Mapping[str, OptionValue] | None = None) -> RunConfig:
    settings: dict[str, OptionValue] = {
        "tasks": "classification",
        "data.limit": 200,
        "classification.learning-rate": 0.005,
        "classification.embedding-size": 16,
        "classification.batch-size": 8,
    }
    return tiny_run(tmp_path, {**settings, **(overrides or {})})


def result(tmp_path: Path, number: int = 2, task: str = "classification") -> dict[str, Any]:
    path = tmp_path / "run" / task / "prototypes" / f"round-{number:04d}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def figure(rows: list[Row], reading: str, head: str, part: str = "test", name: str = "accuracy") -> Any:
    (row,) = [row for row in rows if (row["reading"], row["head"], row["part"]) == (reading, head, part)]
    return row["figures"][name]


def status(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "run/status.json").read_text())
    return found


def site_of(message: Message) -> str:
    return f"site-{message.metadata.dst_node_id - 1000}"


def changing(kind: str, site: str, key: str, change: Any) -> Any:
    """Change one of the sums that a site answers to one kind of message."""

    def meddle(instruction: Message, reply: Message) -> Message | None:
        if instruction.metadata.message_type == kind and site_of(instruction) == site:
            changed = unpack(reply.content.array_records["statistics"])
            changed[key] = change(changed[key])
            reply.content["statistics"] = pack(changed)
        return reply

    return meddle


def data_of(config: RunConfig, number: int, num_nodes: int) -> Any:
    return load_local(config, NodeConfig.from_flat({"partition-id": number, "num-partitions": num_nodes}))


@pytest.mark.usefixtures("drawn")
def test_a_finished_run_leaves_everything_that_was_promised(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"classification.readings": ALL}), 2)
    run = tmp_path / "run"
    assert status(tmp_path)["state"] == "completed"
    found = result(tmp_path)
    assert found["contributed"] == ["site-0", "site-1"] and found["left-out"] == {} and found["images"] == 160
    assert {row["reading"] for row in found["results"]} == {"global", "consistent", "piggyback", "local"}
    assert set(found["sites"]) == {"site-0", "site-1"}
    assert all(found["bytes"][name] > 0 for name in ("moments-down", "moments-up", "heads-down", "heads-up"))
    for name in ("confusion.png", "history.png"):
        assert (run / "classification" / name).read_bytes().startswith(b"\x89PNG")
    assert not (run / "classification/samples").exists()
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Completed" in page and "✓ passed" in page
    card = (run / "classification/MODEL_CARD.md").read_text(encoding="utf-8")
    assert card == (run / "classification/model/README.md").read_text(encoding="utf-8") and "| accuracy | " in card
    assert sum(map(sum, found["confusion"])) == max(
        row["figures"]["n"] for row in found["results"] if row["part"] == "test"
    )
    classifier = read_classifier(run / "classification/model")
    assert classifier.shipped == found["shipped"]["head"] and classifier.record["num-sites"] == 2
    lines = RunFolder(run).read_metrics()
    assert [line.round for line in lines] == [1, 2] and lines[1].figures["accuracy"] is not None
    assert lines[0].bytes_down > 0 and lines[0].bytes_up > 0


def test_scores_of_different_networks_make_no_auc(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {"classification.readings": ALL, "classification.baselines": "local"}
    run_federation(classification(tmp_path, options), 2)
    for rows in (result(tmp_path)["results"], result(tmp_path, task="classification-local")["results"]):
        of_local = [row for row in rows if row["reading"] == "local"]
        assert of_local and all(row["figures"]["auc"] is None and row["intervals"]["auc"] is None for row in of_local)
        assert all(row["figures"]["accuracy"] is not None for row in of_local)
    for rows in result(tmp_path)["sites"].values():  # one network alone has one
        assert any(row["figures"]["auc"] is not None for row in rows if row["reading"] == "local")
    (alone,) = [row for row in comparison(tmp_path) if row["approach"] == "each node alone"]
    assert alone["auc"] == "not defined" and float(alone["accuracy"]) > 0


def test_the_public_test_set_is_measured_once_however_many_nodes_there_are(tmp_path: Path) -> None:
    for num_nodes in (1, 3):
        run_federation(classification(tmp_path / str(num_nodes), {"federation.min-nodes": 1}), num_nodes)
        rows = result(tmp_path / str(num_nodes))["results"]
        assert figure(rows, "consistent", "lda", name="n") == 359
        assert figure(rows, "consistent", "lda", name="support") == figure(rows, "global", "linear", name="support")


def test_federated_moments_are_those_of_all_images_together(tmp_path: Path) -> None:
    config = classification(tmp_path, {"partition.scheme": "dirichlet", "partition.alpha": 0.1})
    run_federation(config, 4)
    classifier = read_classifier(tmp_path / "run/classification/model")
    pooled = load_pooled(config, NodeConfig.from_flat({"partition-id": 0, "num-partitions": 4}))
    together = measure_moments(classifier.build_network(), pooled.train, torch.device("cpu"), 1)
    for key in ("count", "sum", "outer"):
        scale = np.abs(together[key]).max()
        assert np.abs(classifier.pooled[key] - together[key]).max() <= 1e-5 * scale


def test_with_one_node_all_readings_are_the_same(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"classification.readings": ALL, "federation.min-nodes": 1}), 1)
    rows = result(tmp_path)["results"]
    for head in ("nearest-mean", "cosine", "lda"):
        accuracies = {figure(rows, reading, head) for reading in ALL.split(",")}
        assert len(accuracies) == 1
    assert figure(rows, "global", "linear") == figure(rows, "local", "linear")


@pytest.mark.parametrize("by", ["accuracy", "balanced-accuracy", "auc"])
def test_the_head_that_ships_is_the_best_of_those_that_beat_the_linear_one_beyond_the_interval(
    by: str, tmp_path: Path
) -> None:
    options: dict[str, OptionValue] = {"classification.choose-by": by, "partition.scheme": "dirichlet"}
    run_federation(classification(tmp_path, {**options, "data.limit": 600}), 3)
    found = result(tmp_path)
    shipped, differences = found["shipped"], found["shipped"]["differences"]
    assert shipped["choose-by"] == by and set(differences) == {"nearest-mean", "cosine", "lda", "fedcof"}
    reached = {head: figure(found["results"], "consistent", head, "validation", by) for head in differences}
    linear = figure(found["results"], "global", "linear", "validation", by)
    for head, difference in differences.items():
        assert difference["value"] == pytest.approx(reached[head] - linear)
        assert difference["low"] < difference["high"]
    beyond = {head: reached[head] for head, difference in differences.items() if difference["low"] > 0}
    assert beyond, "skewed nodes make a bad layer: else this test says nothing"
    assert shipped["head"] != "linear" and reached[shipped["head"]] == max(beyond.values())
    assert "68 % interval" in shipped["why"] and by in shipped["why"]


def test_a_higher_confidence_keeps_the_linear_head(tmp_path: Path) -> None:
    heads = []
    for confidence in (0.0, 0.999999):
        options: dict[str, OptionValue] = {"classification.choose-confidence": confidence}
        options |= {"data.limit": 300, "classification.num-rounds": 3}
        run_federation(classification(tmp_path / str(confidence), options), 2)
        shipped = result(tmp_path / str(confidence), 3)["shipped"]
        assert shipped["differences"]["lda"]["value"] > 0
        heads.append(shipped["head"])
    assert heads[0] != "linear" and heads[1] == "linear"


def test_the_prior_and_the_distance_that_were_asked_for_are_exported(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "classification.prior": "equal",
        "classification.abstain-by": "mahalanobis",
        "classification.abstain-quantile": 0.99,
    }
    run_federation(classification(tmp_path, options), 2)
    classifier = read_classifier(tmp_path / "run/classification/model")
    assert (classifier.prior, classifier.abstain_by) == ("equal", "mahalanobis")
    assert classifier.abstain_picture_distance is None
    again = build_heads(classifier.pooled, classifier.shrinkage, "equal")[0]["lda"]
    assert np.array_equal(again.bias, classifier.heads["lda"].bias)
    pooled = load_pooled(
        classification(tmp_path, options), NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2})
    )
    assert len(pooled.validation) > 10
    found = classify(classifier, pooled.validation.images, None, torch.device("cpu"))
    # 99 % of the images that the limit comes from are within it; its bins are 5 % wide.
    assert found.abstain.mean() <= 0.01
    assert found.distances.max() > 0.9 * (classifier.abstain_distance or 0.0)


def test_noise_and_constant_images_get_no_answer_and_most_others_do(tmp_path: Path) -> None:
    config = classification(tmp_path, {"data.limit": 800})
    run_federation(config, 2)
    classifier = read_classifier(tmp_path / "run/classification/model")
    found = result(tmp_path)
    assert classifier.abstain_by == "mahalanobis"
    assert classifier.abstain_distance == found["abstain-distance"] is not None
    assert classifier.abstain_picture_distance == found["abstain-picture-distance"] is not None
    generator = np.random.default_rng(0)
    shape = (200, 1, 8, 8)
    strange = {
        "uniform": generator.integers(0, 256, shape),
        "Gaussian": generator.normal(128, 64, shape).clip(0, 255),
        "constant": np.broadcast_to(np.array([0, 128, 255])[:, None, None, None], (3, 1, 8, 8)),
    }
    for name, pixels in strange.items():
        images = torch.from_numpy(pixels.astype(np.uint8))
        assert classify(classifier, images, None, torch.device("cpu")).abstain.all(), name
    pooled = load_pooled(config, NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2}))
    answers = {
        part: classify(classifier, getattr(pooled, part).images, None, torch.device("cpu")).abstain
        for part in ("validation", "test")
    }
    # Each of two tests loses 2.5 % of the images that its limit comes from, and its bins are 5 % wide.
    assert len(answers["validation"]) > 100 and 0.0 < answers["validation"].mean() <= 0.05
    assert len(answers["test"]) > 300 and answers["test"].mean() < 0.15


def test_every_site_and_every_head_has_an_interval_that_holds_its_figure(tmp_path: Path) -> None:
    run_federation(classification(tmp_path), 2)
    found = result(tmp_path)
    rows = [*found["results"], *(row for site in found["sites"].values() for row in site)]
    for row in (row for row in rows if row["figures"]["n"] > 0):
        low, high = row["intervals"]["accuracy"]
        assert low <= row["figures"]["accuracy"] <= high and low < high


def test_patients_make_the_intervals_of_a_site_wider(tmp_path: Path) -> None:
    """Two hospitals with the same images; one knows that twelve each are of one patient."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(120) % 2, 12)
    pixels = (generator.normal(0, 20, (1440, 8, 8)) + np.where(labels, 130, 110)[:, None, None]).clip(0, 255)
    for site in ("known", "unknown"):
        (tmp_path / site).mkdir()
        names = [f"{number}.png" for number in range(len(labels))]
        for name, image in zip(names, pixels.astype(np.uint8), strict=True):
            Image.fromarray(image).save(tmp_path / site / name)
        rows = (f"{name},{('dark', 'light')[label]}" for name, label in zip(names, labels, strict=True))
        split = [f"{row},{('val', 'train')[number // 12 % 4 > 1]}" for number, row in enumerate(rows)]
        table = [f"{row},p{number // 12}" if site == "known" else row for number, row in enumerate(split)]
        header = "file,label,split,patient" if site == "known" else "file,label,split"
        (tmp_path / site / "labels.csv").write_text("\n".join([header, *table]))
    nodes = {
        number: {**NO_MINIMUMS, "test-share": 0.0, "data-path": str(tmp_path / site), "site": site}
        for number, site in enumerate(("known", "unknown"))
    }
    options: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.class-names": "dark,light",
        "data.num-channels": 1,
        "data.image-size": 8,
        "data.limit": 0,
    }
    run_federation(classification(tmp_path, options), 2, node_options=nodes)
    sums = {}
    for site, rows_of in result(tmp_path)["sites"].items():
        (row,) = [
            row for row in rows_of if (row["reading"], row["head"], row["part"]) == ("global", "linear", "validation")
        ]
        assert row["figures"]["n"] == 720
        sums[site] = row["intervals"]["accuracy"]
    assert sums["known"][1] - sums["known"][0] > sums["unknown"][1] - sums["unknown"][0]


def test_a_head_by_name_ships_whatever_it_reaches(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"classification.head": "nearest-mean"}), 2)
    shipped = result(tmp_path)["shipped"]
    assert shipped["head"] == "nearest-mean" and "classification.head" in shipped["why"]


def test_the_heads_that_ship_know_how_sure_they_may_be(tmp_path: Path) -> None:
    run_federation(classification(tmp_path), 2)
    classifier = read_classifier(tmp_path / "run/classification/model")
    assert classifier.temperatures.keys() == classifier.heads.keys()
    found = result(tmp_path)["temperatures"]
    assert (
        classifier.temperatures["lda"] == found["consistent/lda"]
        and classifier.temperatures["linear"] == found["global/linear"]
    )


def test_prototypes_can_be_exchanged_after_chosen_rounds_too(tmp_path: Path) -> None:
    rounds: dict[str, OptionValue] = {"classification.num-rounds": 4, "classification.prototype-rounds": "1,3"}
    run_federation(classification(tmp_path / "a", rounds), 2)
    assert sorted(path.name for path in (tmp_path / "a/run/classification/prototypes").iterdir()) == [
        "round-0001.json",
        "round-0003.json",
        "round-0004.json",
    ]
    shorter = {"classification.num-rounds": 3}
    run_federation(classification(tmp_path / "b", shorter), 2)
    rows = [result(tmp_path / part, 3)["results"] for part in "ab"]
    assert [row["figures"] for row in rows[0]] == [row["figures"] for row in rows[1]]


def test_a_node_that_fails_in_the_last_round_is_left_out_and_named(tmp_path: Path) -> None:
    nan = changing("query.moments", "site-1", "sum", lambda value: value * np.nan)
    run_federation(classification(tmp_path), 3, meddle=nan)
    found = result(tmp_path)
    assert found["left-out"]["site-1"]["outcome"] == "refused" and "not finite" in found["left-out"]["site-1"]["reason"]
    assert found["contributed"] == ["site-0", "site-2"]
    assert found["images"] < 160
    assert status(tmp_path)["state"] == "degraded" and "site-1" in status(tmp_path)["reason"]


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("count", lambda value: value + 1000, "not those of as many images"),
        ("count", lambda value: -value, "negative number"),
        ("count", lambda value: value * 0.5 + 0.25, "whole numbers"),
        ("outer", lambda value: -value - 1, "negative number"),
        ("outer", lambda value: value * 0.0, "smaller than those of the means"),
        ("outer", lambda value: np.diag(np.diag(value)) * 0.9 + 0.1, "smaller than"),
        ("sum", lambda value: value + 1e6, "smaller than those of the means"),
        ("withheld", lambda value: value - 5, "negative number"),
        ("sum", lambda value: value[:, :3], "other names or shapes"),
        ("picture", lambda value: value * 2.0, "'picture' are not those"),
        ("picture", lambda value: value * np.nan, "not finite"),
        ("picture", lambda value: value + np.diag([0.0, 0.0, 1e6, 0.0]), "'picture' are not those"),
    ],
)
def test_moments_that_cannot_be_are_refused(key: str, change: Any, reason: str, tmp_path: Path) -> None:
    run_federation(classification(tmp_path), 2, meddle=changing("query.moments", "site-0", key, change))
    assert reason in result(tmp_path)["left-out"]["site-0"]["reason"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value + 1000, "more held-out images than it said"),
        (lambda value: value - 1, "not whole numbers"),
        (lambda value: value * 0, "on different images"),
    ],
)
def test_a_measurement_of_heads_that_cannot_be_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    meddle = changing("evaluate.heads", "site-0", "validation/consistent/lda/confusion", change)
    run_federation(classification(tmp_path), 2, meddle=meddle)
    found = result(tmp_path)
    assert reason in found["left-out"]["site-0"]["reason"] and list(found["sites"]) == ["site-1"]
    assert status(tmp_path)["nodes"]["site-0"]["refused"] == 1


def test_a_site_that_measures_more_test_images_than_it_described_is_refused(tmp_path: Path) -> None:
    meddle = changing("evaluate.heads", "site-0", "test/consistent/lda/confusion", lambda value: value + 1000)
    run_federation(classification(tmp_path), 2, meddle=meddle)
    assert "more test images than it said" in result(tmp_path)["left-out"]["site-0"]["reason"]


def test_without_any_moments_the_linear_head_ships_and_the_reasons_are_told(tmp_path: Path) -> None:
    def silent(instruction: Message, reply: Message) -> Message | None:
        if instruction.metadata.message_type == "query.moments":
            sums = unpack(reply.content.array_records["statistics"])
            reply.content["statistics"] = pack({"sum": sums["sum"]})
        return reply

    run_federation(classification(tmp_path), 2, meddle=silent)
    found = result(tmp_path)
    assert found["shipped"]["head"] == "linear" and found["contributed"] == []
    assert set(found["not-defined"]) == {f"consistent/{head}" for head in ("nearest-mean", "cosine", "lda", "fedcof")}
    assert found["abstain-distance"] is None


def test_nodes_without_images_with_one_class_and_with_one_image_take_part(tmp_path: Path) -> None:
    config = classification(
        tmp_path, {"partition.scheme": "dirichlet", "partition.alpha": 0.02, "classification.readings": ALL}
    )
    counts = [data_of(config, number, 12).train.class_counts() for number in range(12)]
    totals = [int(count.sum()) for count in counts]
    assert 0 in totals and any(int((count > 0).sum()) == 1 for count in counts)
    run_federation(config, 12)
    found = result(tmp_path)
    assert found["images"] == sum(totals) and found["left-out"] == {}
    assert status(tmp_path)["state"] == "completed"


def test_a_class_that_nobody_holds_is_never_predicted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    generator = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = generator.normal(level, 20, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    options: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.directory": str(folder),
        "data.class-names": "absent,dark,light",
        "data.num-channels": 1,
        "data.image-size": 8,
        "data.limit": 0,
    }
    run_federation(classification(tmp_path, options), 2)
    found = result(tmp_path)
    assert figure(found["results"], "consistent", "lda", "validation", "support")[0] == 0
    assert figure(found["results"], "consistent", "lda", "test", "support")[0] == 0
    classifier = read_classifier(tmp_path / "run/classification/model")
    assert all(head.bias[0] == -np.inf for head in classifier.heads.values())
    assert not classifier.known[0] and classifier.known[1:].all()


def test_a_hospitals_min_class_count_is_obeyed_and_recorded(tmp_path: Path) -> None:
    config = classification(tmp_path, {"partition.scheme": "dirichlet", "classification.readings": ALL})
    counts = data_of(config, 0, 2).train.class_counts().numpy()
    least = int(np.median(counts[counts > 0])) + 1
    run_federation(config, 2, node_options={0: {"min-class-count": least}})
    withheld = [number for number, count in enumerate(counts) if 0 < count < least]
    assert withheld
    found = result(tmp_path)
    assert found["withheld"] == {str(number): 1 for number in withheld}
    assert found["images"] == 160 - int(counts[withheld].sum())


def test_baselines_stand_in_one_table_with_the_prototypes(tmp_path: Path) -> None:
    baselines = {"classification.baselines": "local,centralised,FedProx"}
    run_federation(classification(tmp_path, baselines), 3)
    rows = comparison(tmp_path)
    own_layers = [row["approach"] for row in rows if row["head"] == "linear"]
    names = [name.removesuffix(" (ships)").removesuffix(" (chosen)") for name in own_layers]
    assert names == ["each node alone", "centralised", "FedProx", "FedAvg"]
    assert [row["approach"] for row in rows].count("each node alone") == 1  # it has no prototypes
    assert sum(row["approach"].endswith("(ships)") for row in rows) == 1
    assert all(float(row["accuracy-low"]) <= float(row["accuracy"]) <= float(row["accuracy-high"]) for row in rows)
    assert all((row["images"], row["n"]) == ("test", "359") for row in rows)
    assert not (tmp_path / "run/classification-local/model").exists()


def comparison(tmp_path: Path) -> list[Row]:
    text = (tmp_path / "run/classification/comparison.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def test_each_approach_has_its_own_layer_and_the_head_that_held_out_images_chose(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"classification.baselines": "centralised,FedProx"}), 3)
    rows = comparison(tmp_path)
    for name, task, mark in (
        ("centralised", "classification-centralised", "chosen"),
        ("FedProx", "classification-fedprox", "chosen"),
        ("FedAvg", "classification", "ships"),
    ):
        found = result(tmp_path, task=task)
        (chosen,) = [row for row in rows if row["approach"].startswith(name) and row["approach"].endswith(f"({mark})")]
        assert (chosen["reading"], chosen["head"]) == (found["shipped"]["reading"], found["shipped"]["head"])
        assert float(chosen["accuracy"]) == figure(found["results"], chosen["reading"], chosen["head"], "test")
        (layer,) = [row for row in rows if row["approach"].startswith(name) and row["head"] == "linear"]
        assert float(layer["accuracy"]) == figure(found["results"], "global", "linear", "test")


@pytest.mark.parametrize("confidence", [0.0, 0.999])  # what ships: a head from prototypes; the network's own layer
def test_held_out_images_report_a_layer_that_they_did_not_choose_and_nothing_else(
    tmp_path: Path, confidence: float
) -> None:
    options: dict[str, OptionValue] = {
        "classification.baselines": "local",
        "classification.choose-confidence": confidence,
        "classification.num-rounds": 3,
    }
    run_federation(classification(tmp_path, options), 2)
    shipped = next(row for row in comparison(tmp_path) if "(ships)" in row["approach"])
    assert (shipped["head"] == "linear") == (confidence > 0)
    for row in comparison(tmp_path):
        task = "classification-local" if row["approach"] == "each node alone" else "classification"
        rows = result(tmp_path, 3, task)["results"]
        accuracy = figure(rows, row["reading"], row["head"], "validation")
        is_chosen = "(ships)" in row["approach"]
        assert row["home-accuracy"] == (str(accuracy) if row["head"] == "linear" and not is_chosen else "")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Write two hospitals' folders of images whose class is hard to see."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for site in ("north", "south"):
        for name, level in (("dark", 110), ("light", 140)):
            (tmp_path / "sites" / site / name).mkdir(parents=True)
            for number in range(40):
                pixels = generator.normal(level, 60, (8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "sites" / site / name / f"{number}.png")
    return tmp_path / "sites"


def of_folder(directory: Path | str, more: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    return {
        "data.source": "folder", "data.directory": str(directory), "data.class-names": "dark,light",
        "data.num-channels": 1, "data.image-size": 8, "data.limit": 0, **more,
    }  # fmt: skip


def test_without_a_test_set_the_table_says_so_and_holds_no_figure_of_images_that_chose(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = of_folder(folders / "north", {"data.test-share": 0.0, "classification.baselines": "local"})
    with caplog.at_level("INFO"):
        run_federation(classification(tmp_path, options), 2)
    for row in comparison(tmp_path):
        assert row["images"] == "no test set" and not any(row[name] for name in ("n", "accuracy", "auc", "macro-f1"))
        assert bool(row["home-accuracy"]) == (row["head"] == "linear" and "(ships)" not in row["approach"])
    assert "accuracy on 16 held-out images, which chose the head (no test set): " in caplog.text


def test_own_images_are_tested_on_in_a_simulation_too(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = of_folder(folders / "north", {"classification.baselines": "local"})
    with caplog.at_level("INFO"):
        run_federation(classification(tmp_path, options), 2)
    nodes = json.loads((tmp_path / "run/run.json").read_text())["nodes"]
    tested = sum(sum(node["test"]) for node in nodes.values())
    assert tested > 5 and all(row["n"] == str(tested) for row in comparison(tmp_path))
    assert f"accuracy on {tested} test images: global/linear" in caplog.text


def test_the_table_says_what_the_exported_model_reaches_on_the_test_part_of_an_npz(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 60), ("val", 20), ("test", 30)):
        labels = np.arange(count) % 2
        noise = generator.normal(0, 60, (count, 8, 8))
        arrays[f"{part}_images"] = (110 + 30 * labels[:, None, None] + noise).clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "images" / "own.npz", allow_pickle=False, **arrays)
    run_federation(classification(tmp_path, of_folder(tmp_path / "images", {})), 3)
    classifier = read_classifier(tmp_path / "run/classification/model")
    found = classify(classifier, torch.from_numpy(arrays["test_images"])[:, None], None, torch.device("cpu"))
    (shipped,) = [row for row in comparison(tmp_path) if row["approach"].endswith("(ships)")]
    assert shipped["n"] == "30" and float(shipped["accuracy"]) == (found.labels == arrays["test_labels"]).mean()


@pytest.mark.parametrize("is_simulated", [True, False])
def test_between_sites_a_node_alone_is_measured_at_home_and_never_called_tested_on_all(
    folders: Path, tmp_path: Path, is_simulated: bool
) -> None:
    more: dict[str, OptionValue] = {"classification.baselines": "local", "classification.readings": "consistent,local"}
    if is_simulated:
        run_federation(classification(tmp_path, of_folder(folders, {**more, "partition.scheme": "sites"})), 2)
    else:
        nodes = {
            number: {
                **NO_MINIMUMS,
                "data-path": str(folders / site),
                "site": site,
                "state-dir": str(tmp_path / "state"),
            }
            for number, site in enumerate(("north", "south"))
        }
        run_federation(classification(tmp_path, of_folder("", more)), 2, node_options=nodes)
    described = json.loads((tmp_path / "run/run.json").read_text())["nodes"]
    tested = sum(sum(described[site]["test"]) for site in ("north", "south"))
    rows = comparison(tmp_path)
    assert {row["reading"] for row in rows} == {"local", "global", "consistent"}
    for row in rows:
        task = "classification-local" if row["approach"] == "each node alone" else "classification"
        accuracy = figure(result(tmp_path, task=task)["results"], row["reading"], row["head"], "test")
        expected = "not measured" if row["reading"] == "local" else str(accuracy)
        assert row["accuracy"] == expected
        assert (row["home-n"], row["home-accuracy"]) == (str(tested), str(accuracy))  # the same images in every row


def test_with_one_node_every_baseline_is_the_plain_run(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "classification.baselines": "local,centralised,FedProx",
        "strategy.proximal-mu": 0.0,
        "federation.min-nodes": 1,
    }
    run_federation(classification(tmp_path, options), 1)
    plain = figure(result(tmp_path)["results"], "global", "linear", name="nll")
    for name, reading in (("local", "local"), ("centralised", "global"), ("fedprox", "global")):
        rows = result(tmp_path, task=f"classification-{name}")["results"]
        assert figure(rows, reading, "linear", name="nll") == plain


def test_a_resumed_run_ends_with_the_prototypes_of_one_never_stopped(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "classification.num-rounds": 4,
        "classification.readings": ALL,
        "classification.prototype-rounds": "2",
        "classification.baselines": "local",
    }
    run_federation(classification(tmp_path / "never", options), 2)

    def stop(instruction: Message, reply: Message) -> Message | None:
        config = instruction.content.config_records.get("config")
        if instruction.metadata.message_type == "query.moments" and config and config["server-round"] == 2:
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_federation(classification(tmp_path / "stopped", options), 2, meddle=stop)
    assert not (tmp_path / "stopped/run/classification/prototypes").exists()
    run_federation(classification(tmp_path / "stopped", options | {"resume": "auto"}), 2)
    for task, number in (("classification", 2), ("classification", 4), ("classification-local", 4)):
        assert result(tmp_path / "never", number, task) == result(tmp_path / "stopped", number, task)


def test_both_tasks_run_in_one_run(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"tasks": "diffusion,classification"}), 2)
    assert (tmp_path / "run/diffusion/model/model_index.json").is_file()
    assert (tmp_path / "run/classification/model/model.json").is_file()
    nodes = status(tmp_path)["nodes"]
    assert {site: node["contributed"] for site, node in nodes.items()} == {"site-0": 4, "site-1": 4}


def test_a_round_costs_a_node_one_message(tmp_path: Path) -> None:
    grid: LocalGrid = run_federation(classification(tmp_path, {"classification.readings": ALL}), 2)
    kinds = [message.metadata.message_type for message in grid.sent]
    expected = {"query.describe": 1, "train": 2, "query.moments": 1, "evaluate.heads": 1, "evaluate": 1}
    assert {kind: kinds.count(kind) / 2 for kind in kinds} == expected


def test_the_centralised_baseline_is_refused_at_a_hospital(tmp_path: Path) -> None:
    node = NodeConfig.from_flat({"data-path": str(tmp_path), "site": "north"})
    with pytest.raises(OptionError, match="only a simulation"):
        load_pooled(classification(tmp_path), node)


def test_a_classifier_that_learns_nothing_fails_the_run(tmp_path: Path) -> None:
    def untouched(instruction: Message, reply: Message) -> Message | None:
        if instruction.metadata.message_type == "train":
            reply.content["weights"] = instruction.content["weights"]
        return reply

    with pytest.raises(FederationError, match="Nothing was learned"):
        run_federation(classification(tmp_path, {"classification.head": "linear"}), 2, meddle=untouched)
    assert status(tmp_path)["state"] == "failed"


def test_a_baseline_that_fails_costs_its_row_and_not_the_run(tmp_path: Path) -> None:
    def diverge(instruction: Message, reply: Message) -> Message | None:
        task = instruction.content.config_records["config"].get("task")
        if instruction.metadata.message_type == "train" and task == "classification-fedprox":
            return Message(Error(2, "no"), reply_to=instruction)
        return reply

    run_federation(classification(tmp_path, {"classification.baselines": "FedProx"}), 2, meddle=diverge)
    assert status(tmp_path)["state"] == "degraded" and "classification-fedprox failed" in status(tmp_path)["reason"]
    table = (tmp_path / "run/classification/comparison.csv").read_text()
    assert "FedAvg + prototypes" in table and "FedProx" not in table


def test_piggyback_can_ship_beside_a_baseline(tmp_path: Path) -> None:
    options = {"classification.readings": "piggyback,consistent", "classification.baselines": "FedProx"}
    run_federation(classification(tmp_path, options), 2)
    assert read_classifier(tmp_path / "run/classification/model").reading == "piggyback"
    assert read_classifier(tmp_path / "run/classification-fedprox/model").reading == "consistent"


def test_a_site_whose_last_reply_failed_is_left_out_of_the_readings_of_own_networks(tmp_path: Path) -> None:
    def fail(instruction: Message, reply: Message) -> Message | None:
        config = instruction.content.config_records["config"]
        last = instruction.metadata.message_type == "train" and config["server-round"] == 2
        if last and site_of(instruction) == "site-1":
            return Message(Error(2, "out of memory"), reply_to=instruction)
        return reply

    run_federation(classification(tmp_path, {"classification.readings": "piggyback"}), 3, meddle=fail)
    found = result(tmp_path)
    assert found["left-out"]["site-1"] == {
        "outcome": "failed",
        "reason": "out of memory",
        "images": 0.0,
        "seconds": 0.0,
        "pieces": 1,
    }
    assert found["contributed"] == ["site-0", "site-2"]


def test_a_node_alone_that_lost_its_weights_begins_afresh_and_not_with_the_others_mean(tmp_path: Path) -> None:
    config = classification(tmp_path, {"classification.baselines": "local"})
    folder = tmp_path / "run/nodes/site-1/classification-local"
    kept: dict[str, torch.Tensor] = {}

    def lose_the_first(instruction: Message, reply: Message) -> Message | None:
        values = instruction.content.config_records["config"]
        if values.get("task") == "classification-local" and site_of(instruction) == "site-1":
            (folder / "state-0001.safetensors").unlink(missing_ok=True)
            if values["server-round"] == 2 and instruction.metadata.message_type == "train":
                kept.update(load_file(folder / "state-0002.safetensors"))
        return reply

    run_federation(config, 2, meddle=lose_the_first)
    task = build_task("classification", config, dataset_info(config.data))
    model = task.build_model()
    model.load_state_dict(initial_weights(task, config.seed))
    train_local(
        model,
        task,
        data_of(config, 1, 2).train,
        config.classification,
        Progress(2, 2),
        device=torch.device("cpu"),
        order=lambda epoch: generator_for(0, "site-1", epoch, "classification-order"),
        noise=generator_for(0, "site-1", 2, "classification-noise"),
    )
    assert all(torch.equal(kept[f"weights/{key}"], value) for key, value in model.state_dict().items())


def test_each_node_alone_is_asked_in_every_round(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {"classification.baselines": "local", "federation.nodes-per-round": 1}
    run_federation(classification(tmp_path, options), 2)
    assert figure(result(tmp_path, task="classification-local")["results"], "local", "linear", name="n") == 359


def test_a_finished_task_is_not_done_again_by_a_resumed_run(tmp_path: Path) -> None:
    options = {"tasks": "classification", "classification.baselines": "FedProx"}

    def stop(instruction: Message, reply: Message) -> Message | None:
        if instruction.content.config_records["config"].get("task") == "classification-fedprox":
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_federation(classification(tmp_path, options), 3, meddle=stop)
    before = (tmp_path / "run/classification/model/model.json").stat().st_mtime_ns
    grid = run_federation(classification(tmp_path, {**options, "resume": "auto"}), 3)
    tasks = {message.content.config_records["config"].get("task") for message in grid.sent}
    assert tasks - {None} == {"classification-fedprox"}
    assert (tmp_path / "run/classification/model/model.json").stat().st_mtime_ns == before
    assert status(tmp_path)["nodes"]["site-0"]["contributed"] == 4


@pytest.mark.parametrize("strategy", ["FedAdam", "FedAvgM", "FedMedian", "Krum"])
def test_every_kind_of_strategy_can_be_followed_by_prototypes(strategy: str, tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {"classification.strategy": strategy, "classification.readings": ALL}
    run_federation(classification(tmp_path, options), 3)
    assert result(tmp_path)["contributed"] == ["site-0", "site-1", "site-2"]


def test_without_held_out_images_the_linear_head_ships_and_says_why(tmp_path: Path) -> None:
    run_federation(classification(tmp_path, {"data.validation-share": 0.0}), 2)
    found = result(tmp_path)
    assert found["shipped"]["head"] == "linear" and "no held-out image" in found["shipped"]["why"]
    assert found["abstain-distance"] is None and found["temperatures"] == {}


def test_one_round_with_colour_images_and_a_resnet(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.normal(level, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    options: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.directory": str(tmp_path / "images"),
        "data.class-names": "dark,light",
        "data.num-channels": 3,
        "data.image-size": 8,
        "data.limit": 0,
        "classification.network": "resnet18",
        "classification.num-rounds": 1,
        "classification.augment": "flip,shift",
    }
    run_federation(classification(tmp_path, options), 2)
    assert read_classifier(tmp_path / "run/classification/model").pooled["sum"].shape == (2, 512)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("readings", "local", "readings must begin with consistent or piggyback"),
        ("readings", "consistent,consistent", "readings must name each one once"),
        ("readings", "other", "Option 'classification.readings' must be 'consistent'"),
        ("readings", "", "Option 'classification.readings' must not be empty"),
        ("baselines", "local,local", "baselines must name each one once"),
        ("baselines", "FedAvg", "must not name the strategy itself"),
        ("baselines", "pooled", "must be local, centralised, FedAvg"),
        ("prototype-rounds", "3", "prototype-rounds must be at most num-rounds, 2, got 3"),
        ("head", "best", "Option 'classification.head' must be"),
        ("choose-by", "f1", "Option 'classification.choose-by' must be"),
        ("choose-confidence", 1.0, "Option 'classification.choose-confidence' must be less than 1"),
        ("prior", "flat", "Option 'classification.prior' must be"),
        ("abstain-by", "cosine", "Option 'classification.abstain-by' must be"),
    ],
)
def test_a_bad_option_is_named(name: str, value: OptionValue, words: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=words):
        classification(tmp_path, {f"classification.{name}": value})


def test_few_patients_at_each_simulated_node_are_counted_as_patients_and_at_a_hospital_as_one(tmp_path: Path) -> None:
    rows = ["file,label,patient"]
    for number in range(120):
        label = ("dark", "light")[number % 2]
        pixels = np.random.default_rng(number).integers(0, 120, (8, 8)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label},{number // 5}")  # 24 patients
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found: dict[str, float] = {}

    def count_patients(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == "evaluate.heads":
            sums = unpack(reply.content.array_records["statistics"])
            found[site_of(instruction)] = float(sums["test/global/linear/patients"][0])
        return reply

    run_federation(classification(tmp_path / "a", of_folder(tmp_path, {})), 2, meddle=count_patients)
    num_tested = figure(result(tmp_path / "a")["results"], "global", "linear", name="n")
    assert sum(found.values()) == num_tested // 5 > 2
    found.clear()
    few: dict[str, OptionValue] = {"test-share": 0.1}  # of 24 patients: fewer than 5, whatever the key
    own = {
        n: {**NO_MINIMUMS, "data-path": str(tmp_path), "site": f"h{n}", "state-dir": str(tmp_path / f"s{n}"), **few}
        for n in range(2)
    }
    run_federation(classification(tmp_path / "b", of_folder(tmp_path, {})), 2, meddle=count_patients, node_options=own)
    assert max(found.values()) == 1
