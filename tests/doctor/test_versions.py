"""What doctor says of Flower's versions."""

from importlib.metadata import version

import pytest

from fl_app.doctor import installed
from fl_app.doctor.installed import check_flower_here, check_flower_there


def test_the_installed_flower_is_the_one_that_the_app_needs() -> None:
    assert check_flower_here().verdict == "ready"


def test_another_flower_than_the_app_needs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "version", lambda _: "1.41.0")
    finding = check_flower_here()
    assert finding.verdict == "not ready"
    assert "flwr 1.41.0 is installed, fl-app needs flwr <1.43,>=1.42" in finding.text


def test_another_patch_at_the_superlink_is_fine_and_another_minor_version_is_not() -> None:
    major, minor = version("flwr").split(".")[:2]
    assert check_flower_there(f"{major}.{minor}.99").verdict == "ready"
    assert check_flower_there(f"{major}.{int(minor) + 1}.0").verdict == "not ready"
    assert check_flower_there("nonsense").verdict == "not ready"


def test_a_superlink_that_tells_no_version_is_not_checked() -> None:
    assert check_flower_there(None).verdict == "not checked"
