"""Settings of the recipe `breastmnist`: what was measured of the former ones, and the search for those of today."""

import tomllib

from experiments.tuning.setting import PYPROJECT, Options, Setting
from fl_app.options.sections import flatten

# The classifier of the recipe before the search, from which each of its settings departs.
_BEFORE: Options = {
    "classification.strategy": "FedAvg",
    "classification.num-rounds": 120,
    "classification.epochs": 0.5,
    "classification.batch-size": 8,
    "classification.optimizer": "adam",
    "classification.learning-rate": 0.001,
    "classification.lr-schedule": "cosine",
    "classification.keep-optimizer-state": True,
    "classification.augment": "flip,shift",
}


def kept_or_fresh() -> list[Setting]:
    """The recipe's classifier as it was before the search, the optimiser's state kept or fresh."""
    common: Options = {**_recipe(), **_BEFORE, "classification.baselines": ""}
    return [
        Setting(f"breastmnist-{name}", 5, {**common, "classification.keep-optimizer-state": keeps})
        for name, keeps in (("kept", True), ("fresh", False))
    ]


def centralised() -> list[Setting]:
    """The same with kept state, beside one that is trained on all images in one place."""
    options: Options = {**_recipe(), **_BEFORE, "classification.baselines": "centralised"}
    return [Setting("breastmnist-centralised", 5, options, seeds=(0, 1, 2, 3, 4))]


def search() -> list[Setting]:
    """Settings for the recipe's classifier, 60 epochs in all, each also trained on all images in one place."""
    sgd: Options = {"classification.optimizer": "sgd", "classification.momentum": 0.9}
    twice_as_often: Options = {"classification.num-rounds": 240, "classification.epochs": 0.25}
    changes: dict[str, Options] = {
        "adam-0.001": {},  # the recipe as it was
        "adam-0.0005": {"classification.learning-rate": 0.0005},
        "adam-0.002-batch-16": {"classification.learning-rate": 0.002, "classification.batch-size": 16},
        "adam-0.001-quarters": twice_as_often,
        "adam-0.001-fedprox": {"classification.strategy": "FedProx", "strategy.proximal-mu": 1.0},
        "sgd-0.02": {**sgd, "classification.learning-rate": 0.02},
        "sgd-0.05": {**sgd, "classification.learning-rate": 0.05},
        "sgd-0.02-quarters": {**sgd, **twice_as_often, "classification.learning-rate": 0.02},
    }
    common: Options = {**_recipe(), **_BEFORE, "classification.baselines": "centralised"}
    return [
        Setting(f"breastmnist-search-{name}", 5, {**common, **changed}, seeds=(100, 101))
        for name, changed in changes.items()
    ]


def search_more() -> list[Setting]:
    """The three best of each side with two more seeds; the baseline only where it is one of its side's best."""
    first = {setting.name.removeprefix("breastmnist-search-"): setting for setting in search()}
    baselines = {
        "sgd-0.02": "",
        "sgd-0.02-quarters": "",
        "sgd-0.05": "",
        "adam-0.001-quarters": "centralised",
        "adam-0.001": "centralised",
        "adam-0.0005": "centralised",
    }
    return [
        Setting(
            first[name].name,
            5,
            {**first[name].options, "classification.baselines": baseline},
            seeds=(102, 103),
        )
        for name, baseline in baselines.items()
    ]


def final() -> list[Setting]:
    """The recipe of today, the best of the search for a federation, with other seeds and with the limit on updates."""
    options: Options = {**_recipe(), "classification.baselines": "", "admission.max-update-norm-ratio": 10.0}
    return [Setting("breastmnist-final", 5, options, seeds=(0, 1, 2, 3, 4))]


def _recipe() -> Options:
    recipe = tomllib.loads((PYPROJECT.parent / "recipes" / "breastmnist.toml").read_text(encoding="utf-8"))
    return dict(flatten(recipe)) | {"tasks": "classification"}
