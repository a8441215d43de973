"""What a hospital agreed to, `--approved-code` and `--study`, as options of the node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fl_app.errors import OptionError
from fl_app.options.sections import OptionValue

ApprovedCode = Annotated[
    list[str] | None,
    typer.Option("--approved-code", metavar="SHA256", help="Execute this code only, see code-hash; may be repeated."),
]
Study = Annotated[
    Path | None, typer.Option("--study", metavar="FILE", help="Take part only in runs with the options of this file.")
]


def add_approvals(
    options: dict[str, OptionValue], codes: Sequence[str] | None, study: Path | None
) -> dict[str, OptionValue]:
    """Add what the command line approves to the node's options.

    Args:
        options: of --node-config.
        codes: SHA-256, in addition to those of the option `approved-code`.
        study: the file, which the node's processes find from other folders, too.

    Raises:
        OptionError: the options name another study.
    """
    added = dict(options)
    if codes:
        if not all(code.strip() for code in codes):  # an empty variable of a script must not approve everything
            raise OptionError("--approved-code must be the 64 hexadecimal digits of `fl-app code-hash`, got nothing.")
        added["approved-code"] = ",".join([*filter(None, [str(options.get("approved-code", ""))]), *codes])
    if study is not None:
        added["study"] = str(study.expanduser().absolute())
        if options.get("study", added["study"]) != added["study"]:
            raise OptionError(f"--study and --node-config name two studies, {study} and {options['study']}: keep one.")
    return added
