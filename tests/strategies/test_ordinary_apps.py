"""Our strategies in ordinary Flower apps: own ClientApps, Flower's usual records, and Flower's own `start`."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg
from torch import nn

from fl_app.classification.measuring import HeadSet, measure_heads
from fl_app.classification.moments import measure_moments
from fl_app.classification.network import Classifier, build_network
from fl_app.classification.selection import PrototypeMethod
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.errors import FederationError
from fl_app.messages.arrays import array_record, to_tensors, to_weights
from fl_app.strategies.diffusion import DiffusionFedAvg, DiffusionRounds
from fl_app.strategies.prototypes import PrototypeFedAvg
from tests.strategies.app_grid import AppGrid

CPU = torch.device("cpu")


def diffusion_app(broken: tuple[int, ...] = ()) -> ClientApp:
    """Denoise points: node k holds 10 (k + 1) of them, around k."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        if number in broken:
            raise RuntimeError("the disk is full")
        model = nn.Linear(1, 1)
        model.load_state_dict(to_tensors(to_weights(message.content.array_records["arrays"])))
        points = torch.full((10 * (number + 1), 1), float(number))
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(points.shape, generator=generator)
        loss = (model(points + noise) - noise).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
        metrics = MetricRecord({"num-examples": len(points), "loss": float(loss.detach())})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        found = MetricRecord({"num-examples": 1, "node": float(context.node_config["partition-id"])})
        return Message(RecordDict({"metrics": found}), reply_to=message)

    return app


def initial() -> ArrayRecord:
    return ArrayRecord({"weight": torch.ones(1, 1), "bias": torch.zeros(1)})


def test_diffusion_fedavg_gives_an_ordinary_app_what_flowers_fedavg_gives_it() -> None:
    ours = DiffusionFedAvg(min_available_nodes=3).start(AppGrid(diffusion_app(), 3), initial(), num_rounds=3)
    grid = AppGrid(diffusion_app(), 3)
    theirs, arrays = FedAvg(min_available_nodes=3), initial()
    for number in (1, 2, 3):
        messages = list(theirs.configure_train(number, arrays, ConfigRecord(), grid))
        replies = list(grid.pull_messages(list(grid.push_messages(messages))))
        averaged, metrics = theirs.aggregate_train(number, replies)
        assert averaged is not None and metrics is not None
        arrays = averaged
        assert ours.train_metrics_clientapp[number]["loss"] == pytest.approx(metrics["loss"])
        assert ours.evaluate_metrics_clientapp[number]["node"] == 1.0
    for key, value in to_weights(arrays).items():
        assert to_weights(ours.arrays)[key] == pytest.approx(value, rel=1e-6)


def test_evaluate_fn_is_called_before_the_first_round_and_after_each_and_configs_travel() -> None:
    seen: list[int] = []
    rates: list[object] = []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        rates.append((message.content["config"]["rate"], message.content["config"]["server-round"]))
        arrays = message.content["arrays"]
        return Message(RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": 1})}), reply_to=message)

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(number)
        return MetricRecord({"bias": float(to_weights(arrays)["bias"][0])})

    strategy = DiffusionFedAvg(min_available_nodes=2, fraction_evaluate=0.0)
    result = strategy.start(
        AppGrid(app, 2), initial(), 2, train_config=ConfigRecord({"rate": 0.5}), evaluate_fn=evaluate
    )
    assert seen == [0, 1, 2] and sorted(result.evaluate_metrics_serverapp) == [0, 1, 2]
    assert rates == [(0.5, 1)] * 2 + [(0.5, 2)] * 2


def test_a_node_that_fails_costs_an_ordinary_app_its_share_and_not_the_run() -> None:
    strategy = DiffusionFedAvg(min_available_nodes=3, fraction_evaluate=0.0)
    strategy.start(AppGrid(diffusion_app(broken=(1,)), 3), initial(), num_rounds=2)
    assert strategy.record.nodes["node-2"].reason == "the disk is full"
    assert strategy.record.count("contributed") == 2


def test_a_run_in_which_every_node_fails_says_so() -> None:
    strategy = DiffusionFedAvg(min_available_nodes=2, fraction_evaluate=0.0)
    with pytest.raises(FederationError, match="Nothing was learned: no round counted"):
        strategy.start(AppGrid(diffusion_app(broken=(0, 1)), 2), initial(), num_rounds=2)


def test_a_run_that_is_resumed_after_its_last_failed_round_says_that_none_is_left() -> None:
    strategy = DiffusionFedAvg(min_available_nodes=2, fraction_evaluate=0.0)
    strategy.first_round = 3
    with pytest.raises(FederationError, match="no round counted, and none is left to run"):
        strategy.start(AppGrid(diffusion_app(), 2), initial(), num_rounds=2)


def test_fraction_train_decides_how_many_nodes_are_asked() -> None:
    strategy = DiffusionFedAvg(fraction_train=0.5, min_train_nodes=1, min_available_nodes=4, fraction_evaluate=0.0)
    strategy.start(AppGrid(diffusion_app(), 4), initial(), num_rounds=1)
    assert len(strategy.record.asked) == 2 and len(strategy.record.nodes) == 2


def test_the_servers_moving_average_goes_along_with_any_of_flowers_strategies() -> None:
    class DiffusionFedAdam(DiffusionRounds, FedAdam):
        pass

    strategy = DiffusionFedAdam(ema_horizon=4.0, min_available_nodes=2, fraction_evaluate=0.0, eta=0.1)
    result = strategy.start(AppGrid(diffusion_app(), 2), initial(), num_rounds=3)
    assert strategy.ema is not None
    raw, average, first = to_weights(result.arrays), strategy.ema.weights, to_weights(initial())
    for key in raw:
        low, high = np.minimum(raw[key], first[key]), np.maximum(raw[key], first[key])
        assert ((low <= average[key]) & (average[key] <= high)).all() and (raw[key] != average[key]).any()


INFO = DatasetInfo(("dark", "bright"), 1, 8)


def images_of(number: int) -> ImageSet:
    generator = torch.Generator().manual_seed(number)
    labels = torch.arange(40) % 2
    pixels = torch.randint(0, 100, (40, 1, 8, 8), generator=generator) + 150 * labels[:, None, None, None]
    return ImageSet(pixels.to(torch.uint8), labels, INFO.class_names)


def prototype_app() -> ClientApp:
    app = ClientApp()

    def load(message: Message, context: Context) -> tuple[Classifier, ImageSet]:
        network = build_network(INFO, "cnn", 8)
        network.load_state_dict(to_tensors(to_weights(message.content.array_records["arrays"])))
        return network, images_of(int(context.node_config["partition-id"]))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        network, images = load(message, context)
        metrics = MetricRecord({"num-examples": len(images)})  # no training: prototypes alone tell the classes apart
        content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.query("moments")
    def moments(message: Message, context: Context) -> Message:
        network, images = load(message, context)
        sums = measure_moments(network, images, CPU, min_class_count=1)
        return Message(RecordDict({"sums": array_record(sums)}), reply_to=message)

    @app.evaluate("heads")
    def heads(message: Message, context: Context) -> Message:
        network, images = load(message, context)
        found = HeadSet.from_arrays(to_weights(message.content.array_records["heads"]))
        sums = measure_heads(network, None, found, ("consistent",), {"validation": images, "test": images}, CPU)
        return Message(RecordDict({"sums": array_record(sums)}), reply_to=message)

    return app


def test_prototype_fedavg_gives_an_ordinary_app_the_prototypes_of_all_images_together() -> None:
    torch.manual_seed(0)  # an untrained layer may tell two classes apart by luck
    network = build_network(INFO, "cnn", 8)
    method = PrototypeMethod(num_classes=2, embedding_size=8, rounds=frozenset({1}))
    strategy = PrototypeFedAvg(method=method, min_available_nodes=3, fraction_evaluate=0.0)
    strategy.start(AppGrid(prototype_app(), 3), ArrayRecord(network.state_dict()), num_rounds=2)
    assert sorted(strategy.exchanges) == [1, 2] and strategy.exchanges[2].is_last
    found = strategy.exchanges[2]
    together = [images_of(number) for number in range(3)]
    pooled = ImageSet(
        torch.cat([part.images for part in together]), torch.cat([part.labels for part in together]), INFO.class_names
    )
    sums = measure_moments(network, pooled, CPU, min_class_count=1)
    assert found.heads.prototypes == pytest.approx(sums["sum"] / sums["count"][:, None], rel=1e-9)
    assert found.contributed == ["node-1", "node-2", "node-3"] and found.left_out == {}
    confusion = found.total["validation/consistent/nearest-mean/confusion"]
    assert np.trace(confusion) == confusion.sum() == 120
    assert found.selection.shipped.head != "linear" and found.test_set == "own parts"
    assert all(np.isfinite(found.heads.heads["consistent"]["lda"].weight).ravel())
