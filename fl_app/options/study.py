"""The options of the runs that a hospital agreed to: a study's file, and what in a run differs from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_app.errors import OptionError
from fl_app.options.app_files import own_app, read_defaults, read_options
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue

# The only options that a study need not fix, or sections of them: no answer of a hospital's node depends on them (on
# `sampling` if nodes draw images).
EXEMPT: Mapping[str, str] = {
    "recipe": "a name that the server gives the run",
    "run-name": "a name that the server gives the run; a node's own rules decide which folder it may name",
    "output-dir": "a folder of the server",
    "resume": "which run folder the server reads; a resumed run has the same options",
    "checkpoint-every": "how often the server writes; at a node only how many states of its optimiser are kept",
    "gallery-every": "how often the server draws pictures",
    "tracking": "where else the server writes the figures of its rounds",
    "admission": "which replies the server accepts",
    "sampling": "how the server draws pictures; fixed if nodes draw, for audit.copies-images or classification.replay",
    "partition": "splits one data set among simulated nodes; a hospital has its own images",
    **{
        f"federation.{name}": "for which nodes the server waits, how long, and when it gives up"
        for name in ("min-nodes", "wait-seconds", "min-replies", "round-deadline-seconds", "max-failed-rounds", "sites")
    },
    **{
        f"strategy.{name}": "how the server averages; strategy.proximal-mu alone goes to the nodes"
        for name in (
            "server-learning-rate", "server-momentum", "eta", "beta-1", "beta-2", "tau", "trim-fraction",
            "num-malicious-nodes",
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """An option of a run that is not as agreed.

    Attributes:
        option: its dotted name.
        found: the run's value.
        agreed: the study's value, or the default.
    """

    option: str
    found: OptionValue
    agreed: OptionValue


def read_study(path: Path) -> RunConfig:
    """Read a study's file; options that it does not state have the defaults of the app's pyproject.toml.

    Raises:
        OptionError: the file cannot be read or states no option, or an option is unknown, of the wrong type or out of
            range.
    """
    try:
        stated = read_options(path.expanduser(), "study")
    except OSError as error:
        raise OptionError(
            f"The study '{path}' cannot be read: {error.strerror}. Node option 'study' must name a TOML file.",
            public="the study's file cannot be read",
        ) from None
    return RunConfig.received(read_defaults(own_app()) | stated)


def is_exempt(option: str) -> bool:
    """Tell whether a run may set an option otherwise than the study: it, or its section, is exempt."""
    return option in EXEMPT or option.partition(".")[0] in EXEMPT


def differences(run: Mapping[str, OptionValue], study: RunConfig) -> Iterator[Difference]:
    """Yield each option of a run, as `RunConfig.to_flat`, that differs from the study's and that answers depend on."""
    agreed = study.to_flat()
    for name, value in run.items():
        is_fixed = not is_exempt(name) or (study.nodes_draw and name.startswith("sampling."))
        if is_fixed and value != agreed[name]:
            yield Difference(name, value, agreed[name])
