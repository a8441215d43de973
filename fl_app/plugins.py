"""Finds built-in parts and installed plug-ins by name; nothing is imported before its name is asked for.

A name stands for something built in, else for an entry point that an installed package declares in the group
`fl_app.<kind>`, else it is a path, `package.module:Name`. Names come with messages: `allow_only` says which ones may
be imported, and a hospital's node allows nothing but what its own options list. What each kind is, and an example of
each: docs/extending.md.
"""

import importlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fl_app.errors import OptionError, did_you_mean

# What adds one to these: a file that defines it, and its line here.
BUILT_IN: dict[str, dict[str, str]] = {
    "tasks": {  # tasks.BuildTask
        "diffusion": "fl_app.diffusion.task:DiffusionTask.of_run",
        "classification": "fl_app.classification.task:ClassificationTask.of_run",
    },
    "sources": {  # data.images.Source
        "digits": "fl_app.data.digits:SOURCE",
        "mnist": "fl_app.data.mnist:SOURCE",
        "fashion-mnist": "fl_app.data.mnist:SOURCE",
        "folder": "fl_app.data.folder:SOURCE",
        "pathmnist": "fl_app.data.medmnist:SOURCE",
        "dermamnist": "fl_app.data.medmnist:SOURCE",
        "octmnist": "fl_app.data.medmnist:SOURCE",
        "pneumoniamnist": "fl_app.data.medmnist:SOURCE",
        "retinamnist": "fl_app.data.medmnist:SOURCE",
        "breastmnist": "fl_app.data.medmnist:SOURCE",
        "bloodmnist": "fl_app.data.medmnist:SOURCE",
        "tissuemnist": "fl_app.data.medmnist:SOURCE",
        "organamnist": "fl_app.data.medmnist:SOURCE",
        "organcmnist": "fl_app.data.medmnist:SOURCE",
        "organsmnist": "fl_app.data.medmnist:SOURCE",
    },
    "networks": {  # classification.network.BuildNetwork
        "cnn": "fl_app.classification.network:cnn",
        "resnet18": "fl_app.classification.network:resnet18",
    },
    "unets": {"unet": "fl_app.diffusion.unet:plain_unet"},  # diffusion.unet.BuildUNet
    "samplers": {  # diffusion.sampling.Sampler
        "dpm-solver++": "fl_app.diffusion.sampling:DPM_SOLVER",
        "ddim": "fl_app.diffusion.sampling:DDIM",
        "ancestral": "fl_app.diffusion.sampling:ANCESTRAL",
    },
    "strategies": {  # strategies.registry.Strategy
        "FedAvg": "fl_app.strategies.registry:FED_AVG",
        "FedProx": "fl_app.strategies.registry:FED_PROX",
        "FedAvgM": "fl_app.strategies.registry:FED_AVG_M",
        "FedAdam": "fl_app.strategies.registry:FED_ADAM",
        "FedYogi": "fl_app.strategies.registry:FED_YOGI",
        "FedAdagrad": "fl_app.strategies.registry:FED_ADAGRAD",
        "FedMedian": "fl_app.strategies.registry:FED_MEDIAN",
        "FedTrimmedAvg": "fl_app.strategies.registry:FED_TRIMMED_AVG",
        "Krum": "fl_app.strategies.registry:KRUM",
    },
    "heads": {  # classification.heads.BuildHead
        "nearest-mean": "fl_app.classification.heads:nearest_mean",
        "cosine": "fl_app.classification.heads:cosine",
        "lda": "fl_app.classification.heads:lda",
        "fedcof": "fl_app.classification.heads:fedcof",
    },
    "metrics": {"brier": "fl_app.metrics.further:BRIER"},  # metrics.further.Metric
}
# What nodes import in every run; samplers only if they draw images (`RunConfig.named_at_nodes`), the others never.
AT_NODES = ("tasks", "sources", "networks", "unets", "metrics")

FORM = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(:[A-Za-z_][A-Za-z0-9_.]*)?"  # of a name or a path

# Beside what is built in: which names may be imported, and what is said of the others; None: all.
_limit: ContextVar[tuple[frozenset[str], str] | None] = ContextVar("plug-ins that may be imported", default=None)


class PluginError(OptionError):
    """A name stands for nothing, or for something that may not be imported or is not what its kind must be."""


def built_in(kind: str) -> tuple[str, ...]:
    """Return the names of what is built in."""
    return tuple(BUILT_IN[kind])


def installed(kind: str) -> dict[str, EntryPoint]:
    """Return what installed packages offer, by name; imports none of it. What is built in keeps its name."""
    found = entry_points(group=f"fl_app.{kind}")
    return {point.name: point for point in sorted(found) if point.name not in BUILT_IN[kind]}


def providers(kind: str, name: str) -> tuple[str, ...]:
    """Return the installed packages that offer a plug-in of that name; more than one means that the name is unclear."""
    found = entry_points(group=f"fl_app.{kind}", name=name)
    return tuple(sorted({point.dist.name if point.dist else point.value for point in found}))


def is_path(name: str) -> bool:
    """Tell whether a name is a path, `package.module:Name`."""
    return ":" in name


def check_name(kind: str, name: str, option: str, beside: Sequence[str] = ()) -> None:
    """Refuse a name that is neither built in nor installed nor a path, or that two packages offer; imports nothing.

    Args:
        kind: of plug-in.
        name: to be checked.
        option: that holds it.
        beside: words that the option takes, too, for the text of the error.

    Raises:
        PluginError: with what is built in and what is installed, or with the packages that offer the name.
    """
    if name not in BUILT_IN[kind] and not is_path(name) and len(packages := providers(kind, name)) > 1:
        text = f"Option '{option}' is '{name}', which several installed packages offer"
        raise PluginError(f"{text}: {', '.join(packages)}. Uninstall all but one.", public=f"{text}.")
    if name in BUILT_IN[kind] or (re.fullmatch(FORM, name) and (is_path(name) or name in installed(kind))):
        return
    offered = installed(kind)
    hint = did_you_mean(name, (*beside, *BUILT_IN[kind], *offered))
    raise PluginError(
        f"Option '{option}' must be {', '.join((*beside, *BUILT_IN[kind]))}, or an installed plug-in of the group "
        f"'fl_app.{kind}' ({', '.join(offered) or 'there is none'}), got '{name}'.{hint}"
    )


def load(kind: str, name: str, option: str, expected: type | None = None) -> Any:
    """Import what a name stands for.

    Args:
        kind: a key of BUILT_IN.
        name: built in, installed, or a path.
        option: that holds it, for errors.
        expected: class of what it must be; None: a function.

    Raises:
        PluginError: there is none of that name, it may not be imported, importing it fails, or it is something else.
    """
    if name in BUILT_IN[kind]:
        module, _, attributes = BUILT_IN[kind][name].partition(":")
        return reduce(getattr, attributes.split("."), importlib.import_module(module))
    limit = _limit.get()
    if limit is not None and name not in limit[0]:
        raise PluginError(f"Option '{option}' is '{name}': {limit[1]}")
    check_name(kind, name, option)
    point = installed(kind).get(name) or EntryPoint(name, value=name, group=f"fl_app.{kind}")
    try:
        found = point.load()
    except Exception as error:  # whatever a package of somebody else's raises while it is imported
        text = f"Option '{option}' is '{name}', and importing {point.value} failed with {type(error).__name__}"
        raise PluginError(f"{text}: {error}", public=f"{text}; the log says more.") from error
    if not (callable(found) if expected is None else isinstance(found, expected)):
        raise PluginError(
            f"Option '{option}' is '{name}', and {point.value} is no {expected.__name__ if expected else 'function'} "
            f"but a {type(found).__name__}. What a plug-in of this kind must be: docs/extending.md."
        )
    return found


@contextmanager
def allow_only(names: Collection[str], otherwise: str) -> Iterator[None]:
    """Allow only built-ins and `names` in this block; inner blocks cannot add any.

    Args:
        names: of plug-ins, or paths.
        otherwise: what is said of another name: a sentence without its subject, ending in a full stop.
    """
    outer = _limit.get()
    token = _limit.set((frozenset(names) & outer[0], outer[1]) if outer else (frozenset(names), otherwise))
    try:
        yield
    finally:
        _limit.reset(token)


@contextmanager
def named_by_file() -> Iterator[None]:
    """Allow only built-ins and installed plug-ins in this block, which reads names from a file of unknown origin.

    A path could name any program. Those that the environment variable FL_APP_PLUGINS_ALLOWED lists may be imported.
    """
    names = {name for kind in BUILT_IN for name in installed(kind)} | trusted_paths()
    with allow_only(
        names, "the model's file names it, and it is neither built in nor installed. Install its package; a path "
        "must stand in the environment variable FL_APP_PLUGINS_ALLOWED, if you trust it."
    ):  # fmt: skip
        yield


def trusted_paths() -> set[str]:
    """Return the paths that the environment variable FL_APP_PLUGINS_ALLOWED lists, comma-separated."""
    return {name.strip() for name in os.environ.get("FL_APP_PLUGINS_ALLOWED", "").split(",") if name.strip()}
