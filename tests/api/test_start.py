"""How a run is started from Python, and what its end is told as."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fl_app
from fl_app import FederationError, OptionError
from fl_app.api import start
from fl_app.simulation import follow
from fl_app.simulation.outcome import Outcome
from fl_app.simulation.processes import Interrupted

ROOT = Path(__file__).parents[2]
_HEAVY = ("torch", "numpy", "pandas", "flwr", "pydantic", "rich", "PIL", "typing")


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import fl_app; dir(fl_app); "
    program += f"print([name for name in {_HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-S", "-c", program], text=True).strip() == "[]"  # no .pth files


def test_every_name_of_the_interface_is_there_and_no_other() -> None:
    assert all(getattr(fl_app, name) is not None for name in fl_app.__all__)
    assert set(fl_app.__all__) <= set(dir(fl_app))
    assert {name for names in fl_app._HOMES.values() for name in names} == set(fl_app.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        fl_app.train  # type: ignore[attr-defined]  # noqa: B018


def test_every_option_is_listed_with_default_and_meaning() -> None:
    options = fl_app.list_options()
    assert options.loc["diffusion.num-rounds", "default"] == 15
    assert options["meaning"].str.len().min() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sede": 1}, "Option 'sede' does not exist. Did you mean 'seed'?"),
        ({"seed": -1}, "Option 'seed' must be at least 0, got -1"),
        ({"classification.baselines": ["a,b"]}, "no part of it may hold a comma"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(
    options: dict[str, int | list[str]], words: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError) as caught:
        fl_app.run(options=options, out=tmp_path / "runs")
    assert words in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> "type[Ending]":
    monkeypatch.setattr(follow, "check_before_start", lambda *_: None)
    monkeypatch.setattr(start, "run_to_end", Ending.run_to_end)
    return Ending


class Ending:
    """Stands in for Flower's processes."""

    end: Outcome | BaseException

    @classmethod
    def run_to_end(cls, *_: object) -> tuple[Outcome, str]:
        if isinstance(cls.end, BaseException):
            raise cls.end
        return cls.end, "last words"


def test_a_failed_run_is_an_error_that_names_reason_and_folder(ends_with: type[Ending], tmp_path: Path) -> None:
    ends_with.end = Outcome("failed", "no round counted", folder=tmp_path)
    with pytest.raises(FederationError, match=f"The run failed: no round counted. Its folder: {tmp_path}"):
        fl_app.run(out=tmp_path)


def test_a_run_without_a_folder_ends_with_flowers_last_words(ends_with: type[Ending], tmp_path: Path) -> None:
    ends_with.end = Outcome("failed", "Flower says 'not started'")
    with pytest.raises(FederationError, match="last words"):
        fl_app.run(out=tmp_path)


def test_a_degraded_run_comes_back_with_a_warning(ends_with: type[Ending], tmp_path: Path) -> None:
    ends_with.end = Outcome("degraded", None, {"site-1": "1 late"}, tmp_path)
    with pytest.warns(UserWarning, match="degraded. site-1: 1 late"):
        assert fl_app.run(out=tmp_path).folder == tmp_path


def test_an_interrupt_stays_a_keyboard_interrupt_and_signals_work_as_before(
    ends_with: type[Ending], tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    ends_with.end = Interrupted(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fl_app.run(out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
