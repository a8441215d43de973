"""Strategies by name: one of Flower's, with ours before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

from fl_app.errors import OptionError
from fl_app.messages.records import CONFIG, NUM_EXAMPLES, WEIGHTS
from fl_app.options.training import StrategyOptions
from fl_app.plugins import load
from fl_app.strategies.resilient import Resilient

R = TypeVar("R", bound=Resilient)
Settings = Callable[[StrategyOptions], Mapping[str, object]]


@dataclass(frozen=True)
class Strategy:
    """How weights are averaged; a plug-in of the group `fl_app.strategies` is one.

    Attributes:
        kind: Flower's FedAvg, or a class derived from it. Its `aggregate_train` gets one reply, which is the weighted
            mean of all replies that were fit. A state that a resumed run needs lies in `m_t`, `v_t` (arrays by name) or
            `momentum_vector` (a list of arrays), as in Flower's own strategies.
        settings: arguments of `kind`, from the options `strategy.*`.
        compares_replies: it needs all replies at once, and not their mean; the server keeps them in memory.
    """

    kind: type[FedAvg]
    settings: Settings = lambda options: {}
    compares_replies: bool = False


def _adaptive(options: StrategyOptions) -> Mapping[str, object]:
    return {"eta": options.eta, "tau": options.tau}


def _adaptive_with_momentum(options: StrategyOptions) -> Mapping[str, object]:
    return {**_adaptive(options), "beta_1": options.beta_1, "beta_2": options.beta_2}


FED_AVG = Strategy(FedAvg)
FED_PROX = Strategy(FedProx, lambda options: {"proximal_mu": options.proximal_mu})
FED_AVG_M = Strategy(
    FedAvgM,
    lambda options: {
        "server_learning_rate": options.server_learning_rate,
        "server_momentum": options.server_momentum,
    },
)
FED_ADAM = Strategy(FedAdam, _adaptive_with_momentum)
FED_YOGI = Strategy(FedYogi, _adaptive_with_momentum)
FED_ADAGRAD = Strategy(FedAdagrad, _adaptive)
FED_MEDIAN = Strategy(FedMedian, compares_replies=True)
FED_TRIMMED_AVG = Strategy(FedTrimmedAvg, lambda options: {"beta": options.trim_fraction}, compares_replies=True)
KRUM = Strategy(Krum, lambda options: {"num_malicious_nodes": options.num_malicious_nodes}, compares_replies=True)


def build_strategy(rounds: type[R], name: str, parameters: StrategyOptions, **ours: Any) -> R:
    """Build one of Flower's strategies with ours before it.

    Args:
        rounds: `DiffusionRounds` or `PrototypeRounds`.
        name: built in or a plug-in.
        parameters: the options of Flower's strategy.
        ours: arguments of `rounds`.

    Raises:
        OptionError: the name stands for nothing that may be used.
    """
    chosen: Strategy = load("strategies", name, "strategy", Strategy)
    if chosen.compares_replies and ours.get("with_node_ema"):
        raise OptionError(f"Option 'diffusion.node-ema' is a mean over all nodes, which strategy {name} is to avoid.")
    own: dict[str, object] = {"__module__": rounds.__module__}
    if chosen.compares_replies:
        own["keeps_all"] = True
    kind = type(f"{rounds.__name__.removesuffix('Rounds')}{name}", (rounds, chosen.kind), own)
    strategy: R = kind(
        fraction_train=1.0,
        fraction_evaluate=0.0,  # nodes measure weights as part of training
        min_train_nodes=1,
        min_available_nodes=1,
        weighted_by_key=NUM_EXAMPLES,
        arrayrecord_key=WEIGHTS,
        configrecord_key=CONFIG,
        **chosen.settings(parameters),
        **ours,
    )
    return strategy
