"""Decides whether a node may execute a bundle: only the bundles whose SHA-256 the hospital has approved."""

import hashlib
import io
import logging
import tomllib
import zipfile
from collections.abc import Sequence

from fl_app.flower import ReceivedBundle

log = logging.getLogger(__name__)

_SHOWN = 12  # hexadecimal digits of a hash in the answer to the run, whose length is limited


def fault_of(bundle: ReceivedBundle, approved: Sequence[str]) -> str | None:
    """Return why a bundle must not be executed, as text for the run; None if it is approved.

    Args:
        bundle: as it came; its hash is computed here, whatever the SuperLink states.
        approved: SHA-256 of bundles, 64 hexadecimal digits in lower case.
    """
    found = hashlib.sha256(bundle.content).hexdigest()
    if found not in approved:
        log.error("A run was refused: its code has SHA-256 %s, which 'approved-code' does not name.", found)
        known = ", ".join(f"{one[:_SHOWN]}…" for one in approved[:2]) + (", …" if len(approved) > 2 else "")
        return (
            f"this node executes approved code only: found SHA-256 {found[:_SHOWN]}…, approved {known}. "
            "Submit approved code (see `fl-app code-hash`), or ask the hospital to approve this one"
        )
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as files:  # approved, so it is whole
        document = tomllib.loads(files.read("pyproject.toml").decode("utf-8"))
    project, publisher = document["project"], document["tool"]["flwr"]["app"]["publisher"]
    # Flower starts what lies in a folder of that name: another name would lead to other code.
    if set(bundle.claimed_hashes) != {found} or bundle.claimed_name != (
        f"{publisher}/{project['name']}",
        str(project["version"]),
    ):
        log.error("A run was refused: the SuperLink sent approved code under the name or the SHA-256 of other code.")
        return "the SuperLink sent approved code under another name or SHA-256: this node does not execute it"
    return None
