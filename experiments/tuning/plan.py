"""What is run: every group of runs, fixed before its first run.

`digits` trains as the demo does, with the optimiser's state kept or fresh and with each loss weight. `digits-options`
changes one option at a time, with a quarter of the epochs. `fashion-options` does it again on Fashion-MNIST.
`search` looks for the batch and the step size of the federated and of the centralised training, equally many settings
each, by the loss of held-out images; `search-further` goes on from the winners, both of which lay at the edge: half the
step size, half the batch, and both. `fashion` trains with the best of `search` for 30 epochs. Samples are judged by
`benchmarks.image_quality` and `benchmarks.frechet`.

`breastmnist` trains the recipe's classifier as it was with the optimiser's state kept or fresh,
`breastmnist-centralised` beside all images in one place. `breastmnist-search` looks for the recipe's options, eight
settings for the federation and the same eight for all images in one place: by the AUC, on the 78 held-out images, of
the head that would ship, mean of the seeds 100 and 101. The three best of each side train again with seeds 102 and 103
(`breastmnist-search-more`), and the mean of the four seeds decides. `strategies` looks for FedAvg's step size,
FedProx's `mu` and FedAdam's `eta`, four values each, by the accuracy of held-out images; `strategies-further` goes on
beyond the largest `mu`, which was the best; `strategies-final` trains with the best of each, with other seeds.
"""

from experiments.tuning import breastmnist
from experiments.tuning.setting import Options, Setting

# As it was before the comparison, so that what is called `base` stays what it is when defaults follow the results.
_BASE: Options = {
    "diffusion.keep-optimizer-state": True,
    "diffusion.loss-weight": "eps",
    "diffusion.augment": "",
    "diffusion.ema-horizon": 0.1,
    "diffusion.node-ema": True,
    "diffusion.node-ema-horizon": 0.05,
}

_FASHION: Options = {
    "data.source": "fashion-mnist",
    "data.image-size": 14,
    "data.limit": 6000,
    "diffusion.augment": "",
    "diffusion.loss-weight": "eps",
    "diffusion.keep-optimizer-state": True,
    "diffusion.ema-horizon": 0.0,
}
# The default, and what both sides of the comparison train with.
_COMPARED: Options = {**_FASHION, "diffusion.loss-weight": "min-snr"}
_FEDERATED: Options = {"diffusion.batch-size": 8, "diffusion.learning-rate": 0.005}
_CENTRALISED: Options = {
    "partition.scheme": "iid",
    "federation.min-nodes": 1,
    "federation.min-replies": 1,
    "diffusion.batch-size": 16,
    "diffusion.learning-rate": 0.001,
}


def _rounds(epochs: int, per_round: float) -> Options:
    return {"diffusion.num-rounds": round(epochs / per_round), "diffusion.epochs": per_round}


def _digits() -> list[Setting]:
    changes: dict[str, Options] = {
        "base": {},
        "fresh": {"diffusion.keep-optimizer-state": False},
        "v": {"diffusion.loss-weight": "v"},
        "min-snr": {"diffusion.loss-weight": "min-snr"},
    }
    return [Setting(f"digits-{name}", 5, {**_BASE, **changed}) for name, changed in changes.items()]


def _digits_options() -> list[Setting]:
    changes: dict[str, Options] = {
        "base": {},
        "v": {"diffusion.loss-weight": "v"},
        "min-snr": {"diffusion.loss-weight": "min-snr"},
        "flip": {"diffusion.augment": "flip"},
        "long-ema": {"diffusion.ema-horizon": 0.3, "diffusion.node-ema-horizon": 0.15},
    }
    common = {**_BASE, "diffusion.epochs": 1.0}
    return [Setting(f"digits-options-{name}", 5, {**common, **changed}) for name, changed in changes.items()]


def _fashion_options() -> list[Setting]:
    changes: dict[str, Options] = {
        "base": {},
        "fresh": {"diffusion.keep-optimizer-state": False},
        "v": {"diffusion.loss-weight": "v"},
        "min-snr": {"diffusion.loss-weight": "min-snr"},
        "flip": {"diffusion.augment": "flip"},
        "ema": {"diffusion.ema-horizon": 0.1, "diffusion.node-ema": True, "diffusion.node-ema-horizon": 0.05},
    }
    common = {**_FASHION, **_FEDERATED, **_rounds(5, 0.1)}
    return [Setting(f"fashion-options-{name}", 10, {**common, **changed}) for name, changed in changes.items()]


def _search() -> list[Setting]:
    settings = []
    for batch, rate in ((4, 0.0025), (8, 0.0025), (8, 0.005), (8, 0.01)):
        chosen: Options = {"diffusion.batch-size": batch, "diffusion.learning-rate": rate}
        common = {**_COMPARED, **_FEDERATED, **_rounds(5, 0.1)}
        settings.append(Setting(f"search-federated-{batch}-{rate:g}", 10, {**common, **chosen}, seeds=(100,)))
    for batch, rate in ((8, 0.001), (16, 0.001), (16, 0.002), (16, 0.004)):
        chosen = {"diffusion.batch-size": batch, "diffusion.learning-rate": rate}
        common = {**_COMPARED, **_CENTRALISED, **_rounds(5, 1.0)}
        settings.append(Setting(f"search-centralised-{batch}-{rate:g}", 1, {**common, **chosen}, seeds=(100,)))
    return settings


def _search_further() -> list[Setting]:
    """Beyond the edge at which the best of each search lay, the same three steps for both sides."""
    sides: list[tuple[str, int, Options, float, int, float]] = [
        ("federated", 10, _FEDERATED, 0.1, 4, 0.0025),
        ("centralised", 1, _CENTRALISED, 1.0, 8, 0.001),
    ]
    return [
        Setting(
            f"search-{side}-{best_batch // less_batch}-{best_rate / less_rate:g}",
            num_nodes,
            {
                **_COMPARED,
                **options,
                **_rounds(5, per_round),
                "diffusion.batch-size": best_batch // less_batch,
                "diffusion.learning-rate": best_rate / less_rate,
            },
            seeds=(100,),
        )
        for side, num_nodes, options, per_round, best_batch, best_rate in sides
        for less_batch, less_rate in ((1, 2), (2, 1), (2, 2))
    ]


def _fashion() -> list[Setting]:
    """The best of each search, trained for 30 epochs with other seeds."""
    best: Options = {"diffusion.batch-size": 4, "diffusion.learning-rate": 0.0025}
    federated: Options = {**_COMPARED, **_FEDERATED, **best, **_rounds(30, 0.1)}
    centralised: Options = {**_COMPARED, **_CENTRALISED, "diffusion.batch-size": 8, **_rounds(30, 1.0)}
    return [Setting("fashion-federated", 10, federated), Setting("fashion-centralised", 1, centralised)]


_STRATEGIES: Options = {
    "tasks": "classification",
    "data.source": "fashion-mnist",
    "data.limit": 3000,
    "partition.alpha": 0.1,
    "classification.num-rounds": 10,
}


def _strategies() -> list[Setting]:
    grid: list[tuple[str, str, tuple[float, ...]]] = [
        ("FedAvg", "classification.learning-rate", (0.0005, 0.001, 0.002, 0.004)),
        ("FedProx", "strategy.proximal-mu", (0.001, 0.01, 0.1, 1.0)),
        ("FedAdam", "strategy.eta", (0.003, 0.01, 0.03, 0.1)),
    ]
    return [
        Setting(
            f"strategies-{strategy.lower()}-{value:g}",
            10,
            {**_STRATEGIES, "classification.strategy": strategy, option: value},
            seeds=(100, 101),
        )
        for strategy, option, values in grid
        for value in values
    ]


def _strategies_further() -> list[Setting]:
    """FedProx beyond the largest `mu` of the first search."""
    return [
        Setting(
            f"strategies-fedprox-{mu:g}",
            10,
            {**_STRATEGIES, "classification.strategy": "FedProx", "strategy.proximal-mu": mu},
            seeds=(100, 101),
        )
        for mu in (3.0, 10.0)
    ]


def _strategies_final() -> list[Setting]:
    """The best of each search, by the accuracy of the network's own layer on held-out images, with other seeds."""
    best: dict[str, Options] = {
        "FedAvg": {"classification.learning-rate": 0.001},
        "FedProx": {"strategy.proximal-mu": 1.0},
        "FedAdam": {"strategy.eta": 0.01},
    }
    return [
        Setting(f"strategies-final-{name.lower()}", 10, {**_STRATEGIES, "classification.strategy": name, **chosen})
        for name, chosen in best.items()
    ]


GROUPS: dict[str, list[Setting]] = {
    "digits": _digits(),
    "digits-options": _digits_options(),
    "fashion-options": _fashion_options(),
    "search": _search(),
    "search-further": _search_further(),
    "fashion": _fashion(),
    "strategies": _strategies(),
    "strategies-further": _strategies_further(),
    "strategies-final": _strategies_final(),
    "breastmnist": breastmnist.kept_or_fresh(),
    "breastmnist-centralised": breastmnist.centralised(),
    "breastmnist-search": breastmnist.search(),
    "breastmnist-search-more": breastmnist.search_more(),
    "breastmnist-final": breastmnist.final(),
}
