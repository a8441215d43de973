"""What is packed for support, from a run folder with canaries in it."""

import json
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from fl_app.cli.bundle_logs import bundle_logs
from fl_app.errors import OptionError, RunFolderError
from fl_app.runs.log_archive import collect, words_of

CANARY = "canary"


def plant(folder: Path) -> Path:
    """Make a run folder with canaries in every place where something private can be."""
    (folder / "diffusion" / "samples").mkdir(parents=True)
    for name in ("diffusion/samples/canary.png", "diffusion/canary.safetensors", "canary.csv", "canary-key"):
        (folder / name).write_text(CANARY)
    path = f"/data/{CANARY} {CANARY}/{CANARY}.png"
    options = {"output-dir": f"/home/{CANARY}", "data.directory": f"{CANARY}-images", "seed": 7}
    (folder / "run.json").write_text(json.dumps({"run-name": "r", "options": options, "nodes": {"north": {}}}))
    status = {"state": "failed", "reason": f"{path} is broken", "folder": str(folder), "nodes": {"north": {"late": 1}}}
    (folder / "status.json").write_text(json.dumps(status))
    lines = [
        json.dumps({"round": 1, "train-loss": 0.5, "reason": f"'{path}' is broken"}),
        f'{{"round": 2, "x": "{path}',
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    log = [
        "INFO : diffusion round 1/2: 1 of 2 nodes contributed",
        f"ERROR : {path} cannot be read as an image: truncated",
        f'  File "/home/{CANARY}/fl_app/data/folder.py", line 3, in read',
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n-----END OPENSSH PRIVATE KEY-----",
        f"written by {CANARY}.dcm",
    ]
    (folder / "run.log").write_text("\n".join(log))
    return folder


def packed(folder: Path) -> dict[str, str]:
    return collect(folder, words_of(folder, []))


def test_no_canary_gets_into_the_zip(tmp_path: Path) -> None:
    folder, out = plant(tmp_path / "run"), tmp_path / "logs.zip"
    bundle_logs(folder, out)
    with zipfile.ZipFile(out) as bundle:
        assert bundle.namelist() == ["versions.json", "run.json", "status.json", "metrics.jsonl", "run.log"]
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    for name, text in texts.items():
        assert CANARY not in text, name
    assert str(tmp_path) not in "".join(texts.values())


def test_what_support_needs_is_in_it(tmp_path: Path) -> None:
    members = packed(plant(tmp_path / "run"))
    assert json.loads(members["run.json"])["options"]["seed"] == 7
    assert json.loads(members["status.json"])["nodes"] == {"north": {"late": 1}}
    assert json.loads(members["metrics.jsonl"].splitlines()[0])["train-loss"] == 0.5
    assert "diffusion round 1/2: 1 of 2 nodes contributed" in members["run.log"]
    assert "fl_app/data/folder.py" in members["run.log"]
    assert json.loads(members["versions.json"])["packages"]["flwr"] == version("flwr")


def test_a_broken_run_folder_is_packed_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = plant(tmp_path / "run")
    (folder / "status.json").write_text(f'{{"reason": "/data/{CANARY}')
    (folder / "run.log").unlink()
    members = packed(folder)
    assert list(members) == ["versions.json", "run.json", "status.json", "metrics.jsonl"]
    assert CANARY not in "".join(members.values())


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "logs.zip"
    out.write_text("mine")
    with pytest.raises(OptionError, match="does not exist yet"):
        bundle_logs(plant(tmp_path / "run"), out)
    assert out.read_text() == "mine"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is no run folder: it holds no run\.json"):
        bundle_logs(tmp_path, tmp_path / "logs.zip", tmp_path)


def test_further_logs_are_packed_and_scrubbed_as_well(tmp_path: Path) -> None:
    folder, out, log = plant(tmp_path / "run"), tmp_path / "logs.zip", tmp_path / "north.log"
    log.write_text(f"ERROR : /data/{CANARY}/{CANARY}.png cannot be read as an image: truncated\n")
    bundle_logs(folder, out, logs=[log])
    with zipfile.ZipFile(out) as bundle:
        text = bundle.read("log-1.txt").decode()
    assert "cannot be read as an image" in text and CANARY not in text
    with pytest.raises(OptionError, match="--log must name a file"):
        bundle_logs(folder, tmp_path / "other.zip", logs=[tmp_path / "nowhere.log"])
    assert not (tmp_path / "other.zip").exists()


def test_labels_that_hospitals_brought_are_taken_out_and_sites_and_stated_classes_stay(tmp_path: Path) -> None:
    folder = plant(tmp_path / "run")
    options = {"data.class-names": "benign", "seed": 7}
    agreed = {"class-names": ["benign", "Mueller", "3"], "num-channels": 1, "image-size": 8}
    document = {"run-name": "r", "options": options, "nodes": {"north": {"train": [3, 3, 3]}}, "agreed": agreed}
    (folder / "run.json").write_text(json.dumps(document))
    reason = "Site 'north' has other classes than the run: missing Mueller, extra Roe. Change the folders"
    (folder / "status.json").write_text(json.dumps({"state": "failed", "reason": reason}))
    (folder / "run.log").write_text("site-0: benign 3, Mueller 3\nSite 'east' is left out: no part 'test'\n")
    log = tmp_path / "north.log"
    log.write_text("ERROR : labels.csv, line 3: the label 'Roe' is not a class of this run; its classes are Mueller.\n")
    out = tmp_path / "logs.zip"
    bundle_logs(folder, out, logs=[log])
    with zipfile.ZipFile(out) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert not [name for name, text in texts.items() if "Mueller" in text or "Roe" in text]
    assert json.loads(texts["run.json"])["agreed"]["class-names"] == ["benign", "[name]", "3"]
    expected = "Site 'north' has other classes than the run: [values]. Change the folders"
    assert json.loads(texts["status.json"])["reason"] == expected
    assert texts["run.log"] == "site-0: benign 3, [name] 3\nSite [value] is left out: no part 'test'\n"
