"""Whatever is in a message, an option or a file: only errors that say what to do come out; a fixed seed and number."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fl_app.classification.judging import check_head_sums, check_site_moments
from fl_app.classification.measuring import blank_head_sums
from fl_app.cli.doctor import read_node_options
from fl_app.data.images import DatasetInfo
from fl_app.data.label_table import read_table
from fl_app.errors import FlAppError, RejectedReply
from fl_app.files import write_manifest
from fl_app.messages.arrays import Weights, pack, unpack
from fl_app.messages.descriptions import SiteDescription, read_description, write_description
from fl_app.messages.records import DESCRIBE, Reply, read_reply, read_sums, write_reply, write_sums
from fl_app.metrics.classification import score_fault, score_sums
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import joint_bins, paired_counts
from fl_app.node.sent import LOG, append, verify
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.study import differences, read_study
from fl_app.runs.exchanges import read_exchange
from fl_app.runs.folder import RunFolder, read_checkpoint, read_status
from fl_app.runs.progress import RunReader, summarise
from fl_app.runs.run_json import held_classes, read_document
from fl_app.strategies.admission import Admission, check_sums
from fl_app.strategies.agreement import compare
from tests.classification.test_judging import moments
from tests.lies.values import about_array, lies_about
from tests.mutations import as_json, changed_document, changed_values, damaged
from tests.node.test_sent import ONE
from tests.options import run_config

OLD_RUN = Path(__file__).parent / "old_runs"
EXCHANGE = "classification/prototypes/round-0002.json"
INFO = DatasetInfo(("a", "b", "c", "d"), 1, 8)
COUNTS = [30, 30, 30, 30]
WEIGHTS: Weights = {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
SUMS = {"raw/loss-sum": np.ones(4), "raw/loss-count": np.full(4, 8.0)}

Fuzz = Callable[[np.random.Generator, Path], None]


def changed_record(content: RecordDict, generator: np.random.Generator) -> RecordDict:
    """Return a message of which one to three records hold lies or damaged bytes, or are missing."""
    changed = RecordDict(dict(content))
    for _ in range(int(generator.integers(1, 4))):
        name = sorted(content)[int(generator.integers(len(content)))]
        record = content[name]
        if generator.random() < 0.05:
            changed.pop(name, None)
        elif isinstance(record, ArrayRecord):
            changed[name] = _changed_arrays(record, generator)
        else:
            key = sorted(record)[int(generator.integers(len(record)))]
            lies = list(lies_about(record[key]).values())
            try:
                values = {**record, key: lies[int(generator.integers(len(lies)))]}
                changed[name] = type(record)(values)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                changed[name] = ConfigRecord() if isinstance(record, MetricRecord) else MetricRecord()
    return changed


def _changed_arrays(record: ArrayRecord, generator: np.random.Generator) -> ArrayRecord:
    arrays, ((packed, sent),) = unpack(record), record.items()
    if generator.random() < 0.4:
        data = damaged(sent.data, generator)
        return ArrayRecord({packed: Array(sent.dtype, (len(data),), sent.stype, data)})
    key = sorted(arrays)[int(generator.integers(len(arrays)))]
    lies = list(about_array(arrays[key]).values())
    return pack({**arrays, key: lies[int(generator.integers(len(lies)))]})


def reply_records(generator: np.random.Generator, folder: Path) -> None:
    honest = Reply("a", "diffusion", 1, 20.0, WEIGHTS, WEIGHTS, SUMS, 9.0, 20.0, 1.0, 1)
    message = Message(changed_record(write_reply(honest), generator), dst_node_id=1, message_type="train")
    expected = {key: np.zeros(4) for key in SUMS}
    found = read_reply(message, WEIGHTS, expected)
    Admission(run_config().admission, 2.0).check(found, "diffusion", 1, "a", WEIGHTS, expected, 20)


def descriptions(generator: np.random.Generator, folder: Path) -> None:
    honest = SiteDescription("north", INFO, COUNTS, COUNTS, COUNTS)
    message = Message(changed_record(write_description(honest), generator), dst_node_id=1, message_type=DESCRIBE)
    compare(read_description(message).info, INFO)


def sums_of_moments(generator: np.random.Generator, folder: Path) -> None:
    honest = {**moments(0), "withheld": np.zeros(4), "picture": _pictures(120)}
    content = changed_record(write_sums("a", honest), generator)
    expected = {key: np.zeros_like(value) for key, value in honest.items()}
    found = read_sums(content, expected)
    check_sums(found, expected)
    check_site_moments(found, COUNTS, 120.0)


def _pictures(count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    u = np.hstack([np.ones((count, 1)), np.random.default_rng(0).uniform(0.1, 0.9, (count, 3))])
    return np.asarray(u.T @ u)


def sums_of_heads(generator: np.random.Generator, folder: Path) -> None:
    scorers = [("global", "linear"), ("consistent", "lda")]
    expected = blank_head_sums(scorers, 4, with_joint=True)
    found = read_sums(changed_record(write_sums("a", HONEST_HEADS), generator), expected)
    check_sums(found, expected)
    check_head_sums(found, COUNTS, COUNTS)
    score_fault({key.rpartition("/")[2]: found[key] for key in found if key.startswith("test/global")}, COUNTS)


def _measured() -> dict[str, Any]:
    """Return sums of honest measurements: 20 images, by two heads."""
    generator = np.random.default_rng(0)
    labels = np.arange(20) % 4
    scores = {head: generator.normal(0.0, 2.0, (20, 4)) for head in ("linear", "lda")}
    right = {head: found.argmax(axis=1) == labels for head, found in scores.items()}
    sums: dict[str, Any] = {}
    for key, blank in blank_head_sums([("global", "linear"), ("consistent", "lda")], 4, with_joint=True).items():
        head = key.split("/")[2] if key.count("/") == 3 else ""
        if not head:
            sums[key] = np.concatenate([[20.0], blank[1:]])
            continue
        found = score_sums(scores[head], labels)
        found["paired"] = paired_counts(right[head], right["linear"], labels, 4)
        found["patients"] = patient_sums(None, right[head], right["linear"])
        found["joint"] = joint_bins(scores[head], scores["linear"], labels)
        sums[key] = found[key.rpartition("/")[2]]
    return sums


HONEST_HEADS = _measured()
TABLE = "file;label;patient;split\n" + "".join(
    f"s/{number}.png;{'benign' if number % 2 else 'other'};patient {number // 2};{'test' if number > 7 else 'train'}\n"
    for number in range(10)
)


def label_tables(generator: np.random.Generator, folder: Path) -> None:
    (folder / "labels.csv").write_bytes(damaged(TABLE.encode(), generator))
    read_table(folder / "labels.csv")


def run_options(generator: np.random.Generator, folder: Path) -> None:
    RunConfig.from_flat(changed_values(run_config().to_flat(), generator)).passes()


NODE = {"data-path": "/data", "site": "north", "min-images": 20, "tasks-allowed": "diffusion,classification"}
NODE |= {"max-rounds-per-day": 3, "state-dir": "/state", "approved-code": "a" * 64, "study": "study.toml"}


def node_options(generator: np.random.Generator, folder: Path) -> None:
    NodeConfig.from_flat(changed_values(NODE, generator))


def node_config_text(generator: np.random.Generator, folder: Path) -> None:
    text = " ".join(f"{name}={json.dumps(value)}" for name, value in NODE.items())
    read_node_options(damaged(text.encode(), generator).decode(errors="surrogateescape"))


STUDY = """[classification]
num-rounds = 3
readings = "consistent"

[data]
source = "folder"
class-names = "benign,malignant"
"""


def study_files(generator: np.random.Generator, folder: Path) -> None:
    (folder / "study.toml").write_bytes(damaged(STUDY.encode(), generator))
    list(differences(run_config().to_flat(), read_study(folder / "study.toml")))


def bound_names(generator: np.random.Generator, folder: Path) -> None:
    text = damaged(b"1234567890=north,9876543210=south,1111111111=west", generator).decode(errors="replace")
    _ = RunConfig.from_flat({**run_config().to_flat(), "federation.sites": text}).federation.bound


def of_document(path: str, read: Callable[[Path], object]) -> Fuzz:
    """Return a fuzz of a JSON file of a finished run: half of the time its bytes, else one of its values."""
    text = (OLD_RUN / "finished" / path).read_bytes()

    def fuzz(generator: np.random.Generator, folder: Path) -> None:
        is_line = path.endswith("l")
        if generator.random() < 0.5:
            changed = damaged(text, generator)
        elif is_line:
            lines = text.splitlines()
            at = int(generator.integers(len(lines)))
            lines[at] = as_json(changed_document(json.loads(lines[at]), generator))
            changed = b"\n".join(lines) + b"\n"
        else:
            changed = as_json(changed_document(json.loads(text), generator))
        (folder / Path(path).name).write_bytes(changed)
        read(folder)

    return fuzz


def read_run(folder: Path) -> None:
    read_document(folder)
    held_classes(folder)


def read_progress(folder: Path) -> None:
    reader = RunReader(folder, 0.0)
    summarise(reader.read_status(), reader.read_rounds())


def read_metrics(folder: Path) -> None:
    RunFolder(folder).read_metrics()
    read_progress(folder)


def read_prototypes(folder: Path) -> None:
    read_exchange(folder / Path(EXCHANGE).name)


def read_both(folder: Path) -> None:
    read_status(RunFolder(folder))
    read_progress(folder)


def state_documents(generator: np.random.Generator, folder: Path) -> None:
    source = next((OLD_RUN / "stopped").rglob("checkpoints/round-*"))
    for file in source.iterdir():
        if file.name != "state.json":
            (folder / file.name).write_bytes(file.read_bytes())
    text = (source / "state.json").read_bytes()
    changed = as_json(changed_document(json.loads(text), generator))
    (folder / "state.json").write_bytes(changed if generator.random() < 0.5 else damaged(text, generator))
    if generator.random() < 0.8:
        write_manifest(folder)
    read_checkpoint(folder)


def sent_logs(generator: np.random.Generator, folder: Path) -> None:
    (folder / LOG).unlink(missing_ok=True)
    for _ in range(4):
        append(folder, ONE)
    (folder / LOG).write_bytes(damaged((folder / LOG).read_bytes(), generator))
    verify(folder)
    append(folder, ONE)


TARGETS: dict[str, tuple[int, Fuzz]] = {
    "reply records": (400, reply_records),
    "descriptions": (200, descriptions),
    "moments": (400, sums_of_moments),
    "sums of heads": (300, sums_of_heads),
    "label tables": (400, label_tables),
    "options of a run": (300, run_options),
    "options of a node": (400, node_options),
    "--node-config": (400, node_config_text),
    "the study's file": (100, study_files),
    "federation.sites": (200, bound_names),
    "run.json": (300, of_document("run.json", read_run)),
    "status.json": (300, of_document("status.json", read_both)),
    "metrics.jsonl": (200, of_document("metrics.jsonl", read_metrics)),
    "an exchange of prototypes": (200, of_document(EXCHANGE, read_prototypes)),
    "state.json": (60, state_documents),
    "the log of what left": (150, sent_logs),
}


TELL = {"status.json", "metrics.jsonl", "the log of what left"}  # they warn of damage, and refuse nothing


@pytest.mark.parametrize("name", TARGETS)
def test_only_declared_errors_come_out(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    number, fuzz = TARGETS[name]
    outcomes = {"read": 0, "refused": 0}
    for seed in range(number):
        try:
            fuzz(np.random.default_rng([seed, len(name)]), tmp_path)
            outcomes["read"] += 1
        except (FlAppError, RejectedReply):
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name!r}: {type(error).__name__}: {error}") from error
    assert outcomes["read"] > 0, "the damage is too large"
    assert (outcomes["refused"] > 0) != (name in TELL), f"the damage is too small: {outcomes}"
