"""The whole of `fl-app doctor` on real folders, and that nothing it says names a file."""

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.doctor import read_node_options
from fl_app.errors import OptionError
from fl_app.options.app_files import own_app
from fl_app.simulation.app import code_hash
from fl_app.simulation.choices import parse_settings, to_toml
from tests.doctor.certificates import issue, make_authority
from tests.doctor.server import serve
from tests.doctor.test_key import write_key
from tests.options import run_config

CANARY = "canary-4711"
SETTINGS = {
    "tasks": "diffusion,classification",
    "data.source": "folder",
    "data.class-names": "benign,malignant",
    "data.num-channels": "1",
    "data.image-size": "8",
    "diffusion.block-channels": "8,8",
    "diffusion.mid-attention": "false",
    "diffusion.epochs": "1",
    "classification.embedding-size": "8",
}


CLASSES = r"Training images: benign \d+, malignant \d+\."


def make_folder(folder: Path) -> Path:
    """Write sixty images of each class: dark ones, and bright ones."""
    generator = np.random.default_rng(0)
    for name, brightness in (("benign", 60), ("malignant", 180)):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            pixels = generator.normal(brightness, 20, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{CANARY}-{number}.png")
    return folder


@functools.cache
def own_hash() -> str:
    return code_hash(own_app())


def examine(folder: Path, *arguments: str, settings: dict[str, str] | None = None, code: str = "") -> Any:
    node = f'data-path="{folder}" site="north" device="cpu" validation-share=0.3 state-dir="{folder.parent / "state"}"'
    command = ["doctor", "--node-config", f'{node} approved-code="{code or own_hash()}"', *arguments]
    for name, value in {**SETTINGS, **(settings or {})}.items():
        command += ["--set", f"{name}={value}"]
    return CliRunner().invoke(app, command)


def findings(result: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(result.stdout)["checks"]}


def test_a_sound_hospital_is_ready_to_join(tmp_path: Path) -> None:
    folder, authority = make_folder(tmp_path / "data"), make_authority(tmp_path)
    key, study = write_key(tmp_path / "node"), tmp_path / "study.toml"
    agreed = run_config(parse_settings([f"{name}={value}" for name, value in SETTINGS.items()], run_config().to_flat()))
    study.write_text(to_toml(agreed.to_flat()))
    with serve(issue(authority, tmp_path / "server.pem", "127.0.0.1")) as port:
        more = ["--superlink", f"127.0.0.1:{port}", "--root-certificates", str(authority.file), "--json"]
        result = examine(folder, *more, "--auth-supernode-private-key", str(key), "--train", "2", "--study", str(study))
    found = findings(result)
    assert {one["verdict"] for one in found.values()} == {"ready", "not checked"}, found
    assert [name for name, one in found.items() if one["verdict"] == "not checked"] == ["patients"]
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verdict"] == "ready"
    assert re.fullmatch(CLASSES, found["classes"]["text"])
    assert re.match(
        r"A run trains on \d+ images, holds \d+ out, and tests on \d+, taken out of the training images by 'test-",
        found["reading"]["text"],
    )
    assert found["training of diffusion"]["text"].startswith("2 rounds, nothing sent: training loss ")
    assert found["limits"]["text"] == (
        "Nothing leaves of fewer than 20 training images ('min-images'), 5 held-out or test images ('min-held-out') "
        "and 5 images of a class ('min-class-count'). In a day (UTC) the node accepts 1000 training messages "
        "('max-rounds-per-day') and 1000 others that "
        "read its images ('max-queries-per-day')."
    )
    assert not (tmp_path / "state").exists()
    assert CANARY not in result.output and str(tmp_path) not in result.output


def test_every_flaw_of_a_folder_is_told_and_no_file_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    first, second = sorted((folder / "benign").iterdir())[:2]
    second.write_bytes(first.read_bytes())
    for file in sorted((folder / "malignant").iterdir())[:8]:
        file.write_bytes(b"broken")
    result = examine(folder, "--json")
    found = findings(result)
    assert result.exit_code == 2
    assert found["unreadable"]["verdict"] == "not ready"
    assert found["duplicates"]["verdict"] == "warning"
    assert found["reading"]["verdict"] == "not ready"
    assert found["device"]["verdict"] == "ready"
    assert found["step of diffusion"]["text"] == "A run could read no training image, see above."
    assert CANARY not in result.output and str(tmp_path) not in result.output


def test_a_folder_that_is_missing_stops_no_other_check(tmp_path: Path) -> None:
    result = examine(tmp_path / CANARY, "--train", "1", "--all")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[-2] == "Not ready: folder, training of diffusion, training of classification."
    assert result.stdout.splitlines()[-1].startswith("Next: fix what is not ready and run this again; --names ")
    assert result.stdout.count("does not exist") == 1 + 2  # once, and in each training
    assert (
        "not ready    folder: The data folder does not exist. 'data-path' in --node-config must name it."
        in result.stdout
    )
    assert "ready        disk: " in result.stdout
    assert "not ready    training of diffusion: " in result.stdout
    assert CANARY not in result.output


def test_a_file_in_place_of_the_folder_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / CANARY).touch()
    result = examine(tmp_path / CANARY, "--json")
    assert findings(result)["folder"]["text"] == (
        "The data folder is a file. 'data-path' in --node-config must name a folder."
    )
    assert CANARY not in result.output


def test_what_is_missing_can_be_lived_with(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    result = examine(
        folder, "--json", settings={"data.class-names": "benign,malignant,other", "tasks": "classification"}
    )
    assert result.exit_code == 1
    assert re.match(CLASSES[:-2] + r", other 0\. None of ", findings(result)["classes"]["text"])
    assert findings(result)["port"]["verdict"] == "not checked"


def test_the_log_and_the_warnings_of_the_node_stay_off_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "benign" / f"{CANARY}-broken.png").write_bytes(b"broken")
    result = examine(folder, "--train", "1", settings={"tasks": "classification"})
    assert CANARY not in result.output
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("arguments", [("--superlink", "nowhere"), ("--set", "sede=1"), ("no-such-recipe",)])
def test_wrong_options_are_refused_before_anything_is_checked(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = examine(make_folder(tmp_path / "data"), *arguments)
    assert isinstance(result.exception, OptionError)  # which is status 2
    assert result.stdout == ""


@pytest.mark.parametrize("text", ["", 'site="north"', 'data-path="/data"', "data-path=/data site=north", 'x="y"'])
def test_node_options_must_name_a_hospital(text: str) -> None:
    with pytest.raises(OptionError):
        read_node_options(text)


def test_node_options_are_read_as_flower_reads_them() -> None:
    text = 'data-path="/data of ours" site="north" min-class-count=5'
    assert read_node_options(text) == {"data-path": "/data of ours", "site": "north", "min-class-count": 5}


def test_a_malformed_host_is_a_finding_and_not_an_end(tmp_path: Path) -> None:
    result = examine(make_folder(tmp_path / "data"), "--superlink", "a..b:8443")
    assert result.exit_code == 2
    assert "not ready    port: a..b:8443 cannot be reached: its name is malformed." in result.stdout
    assert result.stdout.splitlines()[-2] == "Not ready: port."


def test_what_breaks_between_two_checks_is_not_ready_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("fl_app.doctor.images.run_info", fail)
    result = examine(make_folder(tmp_path / "data"))
    assert result.exit_code == 2 and CANARY not in result.output
    assert "The checks ended early with ValueError." in result.stdout


def test_the_report_says_who_when_and_what_next_and_folds_what_is_ready(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    lines = examine(folder).stdout.splitlines()
    assert re.fullmatch(r"fl-app \S+, site north, 20\d\d-\d\d-\d\d \d\d:\d\d UTC, study of --set", lines[0])
    limits, *ready = [line for line in lines if line.startswith("ready ")]
    assert limits.startswith("ready        limits: Nothing leaves of fewer than 20 training images")
    assert (
        ready == [lines[-3]]
        and "disk" in ready[0]
        and "limits" not in ready[0]
        and ready[0].endswith(". --all tells what was found.")
    )
    assert lines[-2] == "Ready."
    assert lines[-1] == (
        "Next: run this again with --superlink and --root-certificates, to check the way to the coordinator."
    )
    told = examine(folder, "--all").stdout
    assert re.search(f"ready        classes: {CLASSES}", told) and "--all" not in told
    assert examine(folder, "--quiet").output == ""


@pytest.mark.parametrize(("fewest", "which"), [(60, "any class"), (40, "malignant")])
def test_that_prototypes_are_withheld_is_a_warning_without_asking(tmp_path: Path, fewest: int, which: str) -> None:
    folder = make_folder(tmp_path / "data")
    for file in sorted((folder / "malignant").iterdir())[20:]:
        file.unlink()
    command = ["doctor", "--node-config", f'data-path="{folder}" site="north" min-class-count={fewest} test-share=0']
    result = CliRunner().invoke(app, [*command, *(f"--set={name}={value}" for name, value in SETTINGS.items())])
    assert result.exit_code == 1
    said = f"Because of 'min-class-count', {fewest}, no prototype of {which} leaves this node."
    assert re.search(rf"warning +classes: .*{said}", result.stdout)


def test_a_malformed_option_of_the_node_is_shown_with_the_form_that_was_expected() -> None:
    with pytest.raises(OptionError, match=r"check-weights=true.*got 'site=\"n\" check-weights=no'"):
        read_node_options('site="n" check-weights=no')


def test_without_a_study_the_folder_is_judged_by_its_own_classes(tmp_path: Path) -> None:
    folder, state = make_folder(tmp_path / "data"), tmp_path / "state"
    node = f'data-path="{folder}" site="north" device="cpu" validation-share=0.3 state-dir="{state}"'
    small = [word for one in ("block-channels=8,8", "epochs=0.1") for word in ("--set", f"diffusion.{one}")]
    result = CliRunner().invoke(app, ["doctor", "--node-config", node, "--json", *small])
    assert re.fullmatch(CLASSES, findings(result)["classes"]["text"])
    assert findings(result)["approved code"]["verdict"] == "warning"  # none is named
    found = json.loads(result.stdout)
    assert (found["site"], found["study"], found["verdict"]) == ("north", None, "warning")  # 8 pixels are enlarged
    assert found["next"].startswith("run this again with the study's file")


def test_a_folder_of_broken_pictures_is_not_ready_and_quiet_says_only_that(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"broken")
    result = examine(folder, "--quiet")
    assert result.exit_code == 2 and result.stdout == ""
    told = [line.partition(":")[0].split("  ")[-1] for line in result.stderr.splitlines()]
    assert told == ["folder", "unreadable", "reading"]
    assert "brightness" not in examine(folder).stdout


def test_a_node_that_will_refuse_the_runs_task_is_not_ready(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    node = f'data-path="{folder}" site="north" device="cpu" tasks-allowed="diffusion"'
    settings = [
        word for name, value in {**SETTINGS, "tasks": "classification"}.items() for word in ("--set", f"{name}={value}")
    ]
    result = CliRunner().invoke(app, ["doctor", "--node-config", node, *settings, "--json"])
    assert result.exit_code == 2
    assert findings(result)["task classification"]["verdict"] == "not ready"


def test_with_names_the_files_concerned_are_named_on_the_error_stream_only(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data")
    (folder / "benign" / f"{CANARY}-broken.png").write_bytes(b"no image")
    shutil.copy(folder / "benign" / f"{CANARY}-1.png", folder / "malignant" / f"{CANARY}-again.png")
    quiet, told = examine(folder), examine(folder, "--names")
    assert CANARY not in quiet.output and CANARY not in told.stdout
    assert f"stays here:  cannot be read: benign/{CANARY}-broken.png (" in told.stderr
    assert f"the same image with different labels: benign/{CANARY}-1.png, malignant/{CANARY}-again.png\n" in told.stderr
    (folder / "malign").mkdir()
    assert examine(folder, "--names").stderr.count(f"{folder / 'malign'} is not a class of this run") == 1


def test_too_few_images_are_a_finding_and_doctor_makes_no_key(tmp_path: Path) -> None:
    node = f'data-path="{make_folder(tmp_path / "data")}" site="north" min-images=100 state-dir="{tmp_path / "state"}"'
    result = CliRunner().invoke(app, ["doctor", "--node-config", node, "--json"])
    assert "fewer than 'min-images', 100: the node would take part without" in findings(result)["reading"]["text"]
    assert not (tmp_path / "state").exists()
