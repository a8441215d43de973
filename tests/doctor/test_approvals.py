"""Doctor says which code and which study a hospital approved, and warns if it approved all."""

from pathlib import Path

import pytest

from fl_app.doctor.approvals import check_code, check_study, check_weights
from fl_app.doctor.finding import examine
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from tests.options import run_config

HASH, OTHER = "0a" * 32, "1b" * 32


def hospital(**options: OptionValue) -> NodeConfig:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return NodeConfig.from_flat({"data-path": "/images", "site": "north", **named})


@pytest.mark.parametrize(
    ("approved", "verdict", "said"),
    [
        ("", "warning", "execute any code. Give --approved-code"),
        (HASH, "ready", "1 approved bundle of code only, the installed fl-app's among them"),
        (OTHER, "warning", f"the installed fl-app's is not among them: its SHA-256 is {HASH}"),
        (f"{OTHER},{HASH}", "ready", "2 approved bundles"),
    ],
)
def test_a_node_that_executes_any_code_or_another_version_is_warned(approved: str, verdict: str, said: str) -> None:
    found = check_code(hospital(approved_code=approved), lambda: HASH)
    assert found.verdict == verdict and said in found.text


def test_a_node_without_a_study_is_told_that_it_takes_part_in_any_run() -> None:
    assert check_study(hospital(), run_config(), True).verdict == "not checked"


@pytest.mark.parametrize(
    ("text", "is_given", "approved", "verdict", "said"),
    [
        ("seed = 1", True, HASH, "not ready", "1 option of this run will be refused: 'seed' is 0, the study says 1"),
        ("seed = 1", False, HASH, "ready", "only in runs with the options of this file"),
        ("seed = 0", True, HASH, "ready", "only in runs with the options of this file"),
        ("seed = 0", True, "", "warning", "give --approved-code, too"),
        ("sede = 0", True, HASH, "not ready", "Option 'sede' does not exist. Did you mean 'seed'?"),
        ("seed = ", True, HASH, "not ready", "The study's file is not valid TOML"),
        (None, True, HASH, "not ready", "The study's file cannot be read"),
    ],
)
def test_a_study_is_checked_for_mistakes_and_compared_with_the_run(
    tmp_path: Path, text: str | None, is_given: bool, approved: str, verdict: str, said: str
) -> None:
    study = tmp_path / "study.toml"
    if text is not None:
        study.write_text(text)
    node = hospital(study=str(study), approved_code=approved)
    found = examine("study", lambda: check_study(node, run_config(), is_given))
    assert found.verdict == verdict and said in found.text
    assert str(tmp_path) not in found.text


def test_a_node_that_takes_any_weights_is_warned() -> None:
    assert check_weights(hospital()).verdict == "ready"
    found = check_weights(hospital(check_weights=False))
    assert found.verdict == "warning" and "takes any weights" in found.text
