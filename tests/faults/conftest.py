"""One federation for all faults: to start it costs more than most of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def federation() -> Iterator[Deployment]:
    """A SuperLink, its executor and three hospitals."""
    with tempfile.TemporaryDirectory(prefix="fl-app-faults-") as home, deployed(Path(home)) as found:
        yield found
