"""Strategies by name: one of Flower's, with ours to the left of it."""

from collections.abc import Callable
from typing import Any

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

from fl_app.config import StrategyOptions
from fl_app.records import CONFIG, NUM_EXAMPLES, WEIGHTS
from fl_app.strategies.resilient import Resilient

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


def build_strategy(name: str, parameters: StrategyOptions, **ours: Any) -> Resilient:
    """Build the strategy of that name; `ours` goes to `Resilient`."""
    flower, settings = STRATEGIES[name]
    kind = type(f"Resilient{name}", (Resilient, flower), {})
    strategy: Resilient = kind(
        fraction_train=1.0,
        min_train_nodes=1,
        min_available_nodes=1,
        weighted_by_key=NUM_EXAMPLES,
        arrayrecord_key=WEIGHTS,
        configrecord_key=CONFIG,
        **settings(parameters),
        **ours,
    )
    return strategy
