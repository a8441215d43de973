"""Strategies by name: one of Flower's, with ours before it."""

from collections.abc import Callable
from typing import Any, TypeVar

from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
)

from fl_app.messages.records import CONFIG, NUM_EXAMPLES, WEIGHTS
from fl_app.options.federation import StrategyOptions
from fl_app.strategies.resilient import Resilient

R = TypeVar("R", bound=Resilient)
Settings = Callable[[StrategyOptions], dict[str, Any]]


def _adaptive(options: StrategyOptions) -> dict[str, Any]:
    return {"eta": options.eta, "tau": options.tau}


def _adaptive_with_momentum(options: StrategyOptions) -> dict[str, Any]:
    return _adaptive(options) | {"beta_1": options.beta_1, "beta_2": options.beta_2}


STRATEGIES: dict[str, tuple[type[FedAvg], Settings]] = {
    "FedAvg": (FedAvg, lambda options: {}),
    "FedProx": (FedProx, lambda options: {"proximal_mu": options.proximal_mu}),
    "FedAvgM": (
        FedAvgM,
        lambda options: {
            "server_learning_rate": options.server_learning_rate,
            "server_momentum": options.server_momentum,
        },
    ),
    "FedAdam": (FedAdam, _adaptive_with_momentum),
    "FedYogi": (FedYogi, _adaptive_with_momentum),
    "FedAdagrad": (FedAdagrad, _adaptive),
    "FedMedian": (FedMedian, lambda options: {}),
    "FedTrimmedAvg": (FedTrimmedAvg, lambda options: {"beta": options.trim_fraction}),
    "Krum": (Krum, lambda options: {"num_malicious_nodes": options.num_malicious_nodes}),
}


def build_strategy(rounds: type[R], name: str, parameters: StrategyOptions, **ours: Any) -> R:
    """Build one of Flower's strategies with ours before it.

    Args:
        rounds: `DiffusionRounds` or `PrototypeRounds`.
        name: in STRATEGIES.
        parameters: the options of Flower's strategy.
        ours: arguments of `rounds`.
    """
    flower, settings = STRATEGIES[name]
    kind = type(f"{rounds.__name__.removesuffix('Rounds')}{name}", (rounds, flower), {"__module__": rounds.__module__})
    strategy: R = kind(
        fraction_train=1.0,
        fraction_evaluate=0.0,  # nodes measure weights as part of training
        min_train_nodes=1,
        min_available_nodes=1,
        weighted_by_key=NUM_EXAMPLES,
        arrayrecord_key=WEIGHTS,
        configrecord_key=CONFIG,
        **settings(parameters),
        **ours,
    )
    return strategy
