"""Whole federations in one process: the laws, and what bad nodes can and cannot do."""

import dataclasses
import json
import math
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from fl_app.data.images import Batch
from fl_app.data.sources import dataset_info
from fl_app.errors import FederationError
from fl_app.messages.arrays import pack, unpack
from fl_app.node.images import load_local
from fl_app.node.training import Progress, train_local
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.plugins import built_in
from fl_app.runs.documents import RoundLine
from fl_app.runs.folder import RunFolder
from fl_app.seeding import generator_for
from fl_app.tasks import build_task, initial_weights
from tests.federation import Clock, run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")


def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def weights(tmp_path: Path, name: str = "raw") -> dict[str, np.ndarray[Any, Any]]:
    checkpoint = folder(tmp_path).last_checkpoint("diffusion")
    assert checkpoint is not None
    return checkpoint.models[name]


def status(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "run/status.json").read_text())
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def site_of(message: Message) -> str:
    return f"site-{message.metadata.dst_node_id - 1000}"


def meddling(site: str, change: Callable[[Message], Message | None]) -> Callable[[Message, Message], Message | None]:
    """Change the training replies of one site."""

    def meddle(instruction: Message, reply: Message) -> Message | None:
        if instruction.metadata.message_type == "train" and site_of(instruction) == site:
            return change(reply)
        return reply

    return meddle


def test_one_node_and_one_round_is_local_training_bit_for_bit(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"diffusion.num-rounds": 1, "federation.min-nodes": 1, "diffusion.ema-horizon": 0.0})
    run_federation(config, 1)
    data = load_local(config, NodeConfig.from_flat({"partition-id": 0, "num-partitions": 1}))
    task = build_task("diffusion", config, dataset_info(config.data))
    model = task.build_model()
    model.load_state_dict(initial_weights(task, config.seed))
    train_local(
        model,
        task,
        data.train,
        config.diffusion,
        Progress(1, 1),
        device=torch.device("cpu"),
        order=lambda epoch: generator_for(0, "site-0", epoch, "diffusion-order"),
        noise=generator_for(0, "site-0", 1, "diffusion-noise"),
    )
    assert same(weights(tmp_path), {key: value.numpy() for key, value in model.state_dict().items()})


def averaged_by_hand(config: RunConfig, num_nodes: int) -> dict[str, np.ndarray[Any, Any]]:
    """Federated averaging without the app's loop: an optimiser a node, plain layout, a float64 mean (McMahan 2017)."""
    task = build_task("diffusion", config, dataset_info(config.data))
    options = config.diffusion
    common = initial_weights(task, config.seed)
    nets = [task.build_model() for _ in range(num_nodes)]
    optimizers = [torch.optim.Adam(net.parameters(), options.learning_rate, fused=False) for net in nets]
    for number in range(1, options.num_rounds + 1):
        total: dict[str, torch.Tensor] = {key: torch.zeros_like(value).double() for key, value in common.items()}
        num_images = 0
        for node, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            data = load_local(config, NodeConfig.from_flat({"partition-id": node, "num-partitions": num_nodes})).train
            net.load_state_dict(common)
            net.train()
            noise = generator_for(config.seed, f"site-{node}", number, "diffusion-noise")
            shuffle = generator_for(config.seed, f"site-{node}", number - 1, "diffusion-order")
            parts = torch.randperm(len(data), generator=shuffle).split(options.batch_size)
            for step, part in enumerate(parts):
                share = (number - 1 + step / len(parts)) / options.num_rounds
                optimizer.param_groups[0]["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
                batch = Batch(data.images[part].float() / 127.5 - 1, data.labels[part])
                optimizer.zero_grad()
                task.losses(net, task.draw(batch, noise)).mean().backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), options.gradient_clip)
                optimizer.step()
            for key, value in net.state_dict().items():
                total[key] += len(data) * value.double()
            num_images += len(data)
        common = {key: (value / num_images).float() for key, value in total.items()}
    return {key: value.numpy() for key, value in common.items()}


def test_two_rounds_of_three_nodes_with_kept_state_are_federated_averaging_by_hand(tmp_path: Path) -> None:
    config = tiny_run(
        tmp_path,
        {
            "diffusion.keep-optimizer-state": True,
            "diffusion.batch-size": 4,
            "admission.max-update-norm-ratio": 0.0,
        },
    )
    run_federation(config, 3)
    expected = averaged_by_hand(config, 3)
    found = weights(tmp_path)
    assert found.keys() == expected.keys()
    assert max(np.abs(found[key] - expected[key]).max() for key in found) <= 1e-5


def test_the_same_seed_gives_the_same_bits_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path / "a"), 3)
    run_federation(tiny_run(tmp_path / "b"), 3, order=lambda node: -node)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert same(weights(tmp_path / "a", "ema"), weights(tmp_path / "b", "ema"))
    lines = [[drop_times(line) for line in folder(tmp_path / part).read_metrics()] for part in "ab"]
    assert lines[0] == lines[1]


def drop_times(line: RoundLine) -> RoundLine:
    nodes = {site: dataclasses.replace(node, seconds=0) for site, node in line.nodes.items()}
    return dataclasses.replace(line, seconds=None, images_per_second=None, started=None, ended=None, nodes=nodes)


def test_another_seed_gives_other_bits(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path / "a"), 2)
    run_federation(tiny_run(tmp_path / "b", {"seed": 1}), 2)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.usefixtures("drawn")
def test_a_finished_run_leaves_everything_that_was_promised(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, {"gallery-every": 1, "diffusion.node-ema": True}), 2)
    run = tmp_path / "run"
    assert status(tmp_path)["state"] == "completed"
    document = json.loads((run / "run.json").read_text())
    assert document["options"]["diffusion.num-rounds"] == 2 and document["versions"]["flwr"]
    assert sorted(document["nodes"]) == ["site-0", "site-1"]
    assert [line.round for line in folder(tmp_path).read_metrics()] == [1, 2]
    for name in (
        "split.png",
        "diffusion/history.png",
        "diffusion/samples/round-0001.png",
        "diffusion/samples/final.png",
    ):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert status(tmp_path)["gallery"] == str(run / "diffusion/samples/final.png")
    assert sorted(path.name for path in (run / "diffusion/checkpoints").iterdir()) == [
        "best",
        "round-0001",
        "round-0002",
    ]
    assert {path.stem for path in (run / "diffusion/checkpoints/best").glob("*.safetensors")} >= {
        "raw",
        "ema",
        "node-ema",
    }
    exported = load_tensors(run / "diffusion/model/unet/diffusion_pytorch_model.safetensors")
    assert any(
        same(weights(tmp_path, name), {k: v.numpy() for k, v in exported.items()})
        for name in ("raw", "ema", "node-ema")
    )
    assert not list(run.rglob("*.partial*")) and not list(run.rglob("*.pkl")) and not list(run.rglob("*.pt"))


def test_one_message_a_round_goes_to_a_node(tmp_path: Path) -> None:
    grid = run_federation(tiny_run(tmp_path), 2)
    types = [message.metadata.message_type for message in grid.sent if message.metadata.dst_node_id == 1000]
    assert types == ["query.describe", "train", "train", "evaluate"]


def test_a_node_without_an_image_takes_part_with_weight_zero(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, {"data.limit": 10, "partition.scheme": "dirichlet", "partition.alpha": 0.05}), 12)
    outcomes = {site: node.outcome for site, node in folder(tmp_path).read_metrics()[0].nodes.items()}
    assert "empty" in outcomes.values() and set(outcomes.values()) == {"contributed", "empty"}
    assert status(tmp_path)["state"] == "completed"


@pytest.mark.parametrize("name", built_in("strategies"))
def test_every_strategy_by_name_runs_and_keeps_the_models_dtypes(name: str, tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"diffusion.strategy": name, "strategy.server-momentum": 0.5, "strategy.eta": 0.001})
    run_federation(config, 3)
    task = build_task("diffusion", config, dataset_info(config.data))
    start = initial_weights(task, config.seed)
    found = weights(tmp_path)
    assert {key: value.dtype for key, value in found.items()} == {key: v.numpy().dtype for key, v in start.items()}
    assert not same(found, {key: value.numpy() for key, value in start.items()})


def with_weights(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Message], Message]:
    def changed(reply: Message) -> Message:
        sent = unpack(reply.content.array_records["weights"])
        key = next(iter(sent))
        reply.content["weights"] = pack({**sent, key: change(sent[key])})
        return reply

    return changed


def with_metric(name: str, value: float) -> Callable[[Message], Message]:
    def changed(reply: Message) -> Message:
        reply.content["metrics"] = MetricRecord({**dict(reply.content.metric_records["metrics"]), name: value})
        return reply

    return changed


def without(key: str) -> Callable[[Message], Message]:
    def changed(reply: Message) -> Message:
        del reply.content[key]
        return reply

    return changed


def raising(reply: Message) -> Message:
    return Message(Error(2, "ValueError at the node"), reply_to=reply)


def with_sums(name: str, value: np.ndarray[Any, Any]) -> Callable[[Message], Message]:
    def changed(reply: Message) -> Message:
        reply.content["statistics"] = pack({**unpack(reply.content.array_records["statistics"]), name: value})
        return reply

    return changed


def with_broken_bytes(reply: Message) -> Message:
    (sent,) = reply.content.array_records["weights"].values()
    half = Array(dtype=sent.dtype, shape=sent.shape, stype=sent.stype, data=sent.data[: len(sent.data) // 2])
    reply.content["weights"] = ArrayRecord({"safetensors": half})
    return reply


def with_infinite_round(reply: Message) -> Message:
    node = reply.content.config_records["node"]
    reply.content["node"] = ConfigRecord({**dict(node), "server-round": math.inf})
    return reply


BAD = {
    "huge sums": (with_sums("raw/loss-sum", np.full(4, 1e308)), "refused", "absurdly large"),
    "other sums": (with_sums("raw/loss-sum", np.zeros(7)), "refused", "other names or shapes"),
    "unknown sums": (with_sums("raw/secret", np.zeros(4)), "refused", "other names or shapes"),
    "broken bytes": (with_broken_bytes, "refused", "cannot be read"),
    "infinite round": (with_infinite_round, "refused", "cannot be read"),
    "nan": (with_weights(lambda w: w * np.nan), "refused", "not finite"),
    "other shape": (with_weights(lambda w: w[..., None]), "refused", "must be float32"),
    "an update that is too long in the first round": (
        with_weights(lambda w: (w + 1e3).astype(w.dtype)),
        "refused",
        "as long as the median of this round",
    ),
    "other dtype": (with_weights(lambda w: w.astype(np.float64)), "refused", "got float64"),
    "negative weight": (with_metric("num-examples", -3.0), "refused", "at least 0"),
    "huge weight": (with_metric("num-examples", 1e30), "refused", "images, but described"),
    "more images than described": (with_metric("num-examples", 1e7), "refused", "images, but described 16"),
    "negative count of losses": (with_metric("loss-count", -1e9), "refused", "times on an image"),
    "tiny count of losses": (with_metric("loss-count", 1e-320), "refused", "times on an image"),
    "too many losses": (with_metric("loss-count", 1e6), "refused", "times on an image"),
    "negative loss": (with_metric("loss-sum", -1e9), "refused", "negative, or absurdly large"),
    "huge pieces": (with_metric("num-pieces", 1e14), "refused", "pieces, which is impossible"),
    "half a piece": (with_metric("num-pieces", 0.5), "refused", "pieces, which is impossible"),
    "negative seconds": (with_metric("seconds", -1e9), "refused", "seconds, which is impossible"),
    "false count of held-out images": (with_sums("raw/loss-count", np.full(4, 1e9)), "refused", "more held-out"),
    "half a held-out image": (with_sums("raw/loss-count", np.full(4, 0.5)), "refused", "not whole numbers"),
    "negative held-out losses": (with_sums("raw/loss-sum", np.full(4, -1.0)), "refused", "losses are negative"),
    "huge held-out losses": (with_sums("raw/loss-sum", np.full(4, 1e12)), "refused", "larger than any"),
    "sums of another type": (with_sums("raw/loss-sum", np.zeros(4, np.float32)), "refused", "be float64"),
    "nan loss": (with_metric("loss-sum", math.nan), "refused", "not finite"),
    "nan pieces": (with_metric("num-pieces", math.nan), "refused", "not finite"),
    "no weights": (without("weights"), "refused", "holds no 'weights'"),
    "no metrics": (without("metrics"), "refused", "holds no 'metrics'"),
    "no sums": (without("statistics"), "refused", "holds no 'statistics'"),
    "an error": (lambda reply: Message(Error(2, "it broke"), reply_to=reply), "failed", "it broke"),
    "silence": (lambda reply: None, "late", "no reply within"),
}


def train_with_reply(change: Callable[[Message], Message | None], output: Path) -> None:
    """Train one round of three nodes, one of which replies otherwise."""
    overrides: dict[str, OptionValue] = {"federation.round-deadline-seconds": 0.5, "diffusion.num-rounds": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fl_app.strategies.transport.time", Clock())
        run_federation(tiny_run(output, overrides), 3, meddle=meddling("site-1", change))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the round gives when that node does not reply at all."""
    output = tmp_path_factory.mktemp("silent")
    train_with_reply(lambda reply: None, output)
    return output


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_changes_nothing_but_its_own_outcome(name: str, tmp_path: Path, silent: Path) -> None:
    change, outcome, words = BAD[name]
    train_with_reply(change, tmp_path)
    line = folder(tmp_path).read_metrics()[0]
    assert line.nodes["site-1"].outcome == outcome
    assert words in str(line.nodes["site-1"].reason)
    assert line.outcome == "ok"
    assert status(tmp_path)["state"] == "degraded"
    assert f"site-1 once {outcome}" in status(tmp_path)["reason"]
    assert same(weights(tmp_path), weights(silent))


def test_an_error_at_a_node_travels_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*args: object, **kwargs: object) -> None:
        raise RuntimeError("/data/patients/mueller.png voxel 17")

    monkeypatch.setattr("fl_app.node.client.train_local", explode)
    with pytest.raises(FederationError, match="0 of 2 nodes contributed"):
        run_federation(tiny_run(tmp_path, {"federation.max-failed-rounds": 1}), 2)
    written = "".join(path.read_text() for path in (tmp_path / "run").glob("*.json*"))
    assert "RuntimeError at the node" in written
    assert "mueller" not in written and "voxel" not in written
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert '<p class="word">Failed</p>' in page and "RuntimeError at the node" in page and "mueller" not in page


def test_below_the_quorum_a_round_fails_and_leaves_the_model(tmp_path: Path) -> None:
    first_only = [True]

    def fail_once(reply: Message) -> Message | None:
        return Message(Error(2, "down"), reply_to=reply) if first_only and first_only.pop() else reply

    config = tiny_run(tmp_path, {"federation.min-replies": 2, "diffusion.num-rounds": 3})
    run_federation(config, 2, meddle=meddling("site-0", fail_once))
    lines = folder(tmp_path).read_metrics()
    assert [line.outcome for line in lines] == ["failed", "ok", "ok"]
    assert "1 of 2 nodes contributed, 'federation.min-replies' asks for 2" in str(lines[0].reason)
    assert lines[0].validation_loss != lines[2].validation_loss
    assert lines[0].nodes["site-1"].outcome == "contributed"
    assert status(tmp_path)["state"] == "degraded" and "1 rounds failed" in status(tmp_path)["reason"]


def test_a_failed_round_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"diffusion.num-rounds": 1, "federation.max-failed-rounds": 1})
    with pytest.raises(FederationError, match="rounds in a row failed"):
        run_federation(config, 2, meddle=lambda i, r: raising(r) if i.metadata.message_type == "train" else r)
    start = initial_weights(build_task("diffusion", config, dataset_info(config.data)), config.seed)
    assert same(weights(tmp_path), {key: value.numpy() for key, value in start.items()})


def test_a_run_in_which_no_round_counted_has_failed(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"diffusion.num-rounds": 2, "federation.max-failed-rounds": 9})
    with pytest.raises(FederationError, match="Nothing was learned"):
        run_federation(config, 2, meddle=lambda i, r: raising(r) if i.metadata.message_type == "train" else r)
    assert status(tmp_path)["state"] == "failed"


def test_an_ema_of_a_node_is_judged_like_its_weights(tmp_path: Path) -> None:
    def huge(reply: Message) -> Message:
        ema = unpack(reply.content.array_records["node-ema"])
        key = next(iter(ema))
        reply.content["node-ema"] = pack({**ema, key: np.full_like(ema[key], 1e30)})
        return reply

    run_federation(tiny_run(tmp_path, {"diffusion.node-ema": True}), 2, meddle=meddling("site-1", huge))
    assert folder(tmp_path).read_metrics()[0].nodes["site-1"].outcome == "refused"
    assert max(float(np.abs(value).max()) for value in weights(tmp_path, "node-ema").values()) < 100


def test_a_simulation_is_not_resumed_with_another_number_of_nodes(tmp_path: Path) -> None:
    overrides: dict[str, OptionValue] = {"diffusion.num-rounds": 4, "federation.max-failed-rounds": 1}

    def go_down(instruction: Message, reply: Message) -> Message:
        is_second = instruction.content.config_records["config"].get("server-round") == 2
        return raising(reply) if is_second else reply

    with pytest.raises(FederationError, match="rounds in a row failed"):
        run_federation(tiny_run(tmp_path, overrides), 2, meddle=go_down)
    with pytest.raises(FederationError, match="site-0, site-1 had other images: Site 'site-0' had other images when"):
        run_federation(tiny_run(tmp_path, {**overrides, "resume": "auto"}), 4)


def test_too_many_failed_rounds_in_a_row_stop_the_run_and_say_how_to_resume(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"diffusion.num-rounds": 4, "federation.max-failed-rounds": 2})
    with pytest.raises(FederationError, match=r"2 rounds in a row failed.*resume = "):
        run_federation(config, 2, meddle=lambda i, r: raising(r) if i.metadata.message_type == "train" else r)
    assert [line.outcome for line in folder(tmp_path).read_metrics()] == ["failed", "failed"]
    assert status(tmp_path)["state"] == "failed"
    resumed = tiny_run(tmp_path, {"diffusion.num-rounds": 4, "resume": str(tmp_path / "run")})
    run_federation(resumed, 2)
    assert [line.outcome for line in folder(tmp_path).read_metrics()] == ["failed", "failed", "ok", "ok"]
    assert status(tmp_path)["state"] == "degraded"  # what happened before is not forgotten


def test_fewer_nodes_than_required_end_the_wait_with_a_clear_message(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"federation.min-nodes": 3, "federation.wait-seconds": 0.1})
    with pytest.raises(
        FederationError,
        match=r"^2 of 3 nodes connected within 0.1 s: site-0, site-1. Start the missing nodes, or lower",
    ):
        run_federation(config, 2)
    assert status(tmp_path)["state"] == "failed" and "2 of 3 nodes" in status(tmp_path)["reason"]


def test_the_nodes_of_a_round_are_drawn_by_the_seed(tmp_path: Path) -> None:
    overrides: dict[str, OptionValue] = {"federation.nodes-per-round": 2, "diffusion.num-rounds": 4}
    for part in "ab":
        run_federation(tiny_run(tmp_path / part, overrides), 5)
    asked = [[line.asked for line in folder(tmp_path / part).read_metrics()] for part in "ab"]
    assert asked[0] == asked[1]
    assert all(len(sites) == 2 for sites in asked[0]) and len({tuple(sites) for sites in asked[0]}) > 1


def test_a_site_with_other_classes_stops_the_run_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_local

    def other(config: Any, node: Any) -> Any:
        data = real(config, node)
        if data.site != "site-1":
            return data
        train = dataclasses.replace(data.train, class_names=tuple(reversed(data.train.class_names)))
        return dataclasses.replace(data, train=train)

    monkeypatch.setattr("fl_app.node.answering.load_local", other)
    with pytest.raises(FederationError, match="Site 'site-1' has other classes than the run"):
        run_federation(tiny_run(tmp_path), 2)
    assert folder(tmp_path).read_metrics() == []


def die_in_round_4(output: Path, overrides: dict[str, OptionValue]) -> None:
    """Train in this process until the second node's reply of round 4, and kill it."""

    def die(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records["config"]
        is_second = instruction.metadata.dst_node_id == 1001
        if instruction.metadata.message_type == "train" and config["server-round"] == 4 and is_second:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    torch.set_num_threads(1)
    run_federation(tiny_run(output, overrides), 3, meddle=die)


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    """Start processes that need not import PyTorch and diffusers again: copies of one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fl_app.diffusion.unet", "tests.test_federation"])
    return context


@pytest.mark.parametrize("strategy", ["FedAvg", "FedAdam", "FedAvgM", "FedMedian", "Krum"])
def test_killed_and_resumed_ends_with_the_bits_of_a_run_never_killed(
    strategy: str, tmp_path: Path, forks: ForkServerContext
) -> None:
    overrides: dict[str, OptionValue] = {
        "diffusion.strategy": strategy,
        "strategy.server-momentum": 0.5,
        "strategy.eta": 0.001,
        "diffusion.num-rounds": 5,
        "checkpoint-every": 2,
        "diffusion.node-ema": strategy == "FedAvg",
    }
    run_federation(tiny_run(tmp_path / "never", overrides), 3)
    killed = forks.Process(target=die_in_round_4, args=(tmp_path / "killed", overrides))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert [line.round for line in folder(tmp_path / "killed").read_metrics()] == [1, 2, 3]
    run_federation(tiny_run(tmp_path / "killed", overrides | {"resume": "auto"}), 3)
    for name in ("raw", "ema"):
        assert same(weights(tmp_path / "never", name), weights(tmp_path / "killed", name))
    lines = [[drop_times(line) for line in folder(tmp_path / part).read_metrics()] for part in ("never", "killed")]
    assert lines[0] == lines[1]
    best = [
        load_file(tmp_path / part / "run/diffusion/checkpoints/best/raw.safetensors") for part in ("never", "killed")
    ]
    assert same(*best)
    assert os.listdir(tmp_path / "killed") == ["run"]


def test_the_servers_average_is_sent_only_where_it_is_kept_or_drawn(tmp_path: Path) -> None:
    overrides: dict[str, OptionValue] = {"diffusion.num-rounds": 7, "checkpoint-every": 3, "gallery-every": 5}
    grid = run_federation(tiny_run(tmp_path, overrides), 2)
    asked = [message for message in grid.sent if message.metadata.message_type == "train"]
    rounds = {message.content.config_records["config"]["server-round"]: message.content for message in asked}
    assert [number for number, content in rounds.items() if "ema" in content] == [3, 5, 6, 7]
    lines = folder(tmp_path).read_metrics()
    assert [line.round for line in lines if line.validation_loss_ema is not None] == [3, 5, 6, 7]


def test_the_server_keeps_its_own_account_of_a_run(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, {"diffusion.num-rounds": 1}), 2)
    log = (tmp_path / "run/run.log").read_text()
    assert re.search(r"^20\d\d-.* INFO : diffusion round 1/1: 2 of 2 nodes contributed; loss", log, re.MULTILINE)


def test_the_account_of_a_run_that_breaks_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("fl_app.server.finish_task", break_down)
    with pytest.raises(RuntimeError):
        run_federation(tiny_run(tmp_path, {"diffusion.num-rounds": 1}), 2)
    log = (tmp_path / "run/run.log").read_text()
    assert "ERROR : The run failed: RuntimeError: a fault of ours\nTraceback" in log
