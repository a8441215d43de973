"""Well-formed lies of one site of three: none ends a run, none passes as truth, and each is refused by name."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord
from numpy.typing import NDArray

from fl_app.errors import FederationError
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.records import DESCRIBE, EVALUATE, HEADS, MOMENTS, TRAIN
from fl_app.options.sections import OptionValue
from tests.federation import run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

Array = NDArray[np.float64]
Sums = dict[str, Array]
Change = Callable[[Message], Message]

LIAR = 1001
CLASSES = 10
HEAD = "consistent/lda"
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@dataclass(frozen=True)
class Lie:
    """What the second site of three sends in place of the truth.

    Attributes:
        changes: by kind of message.
        reason: of its refusal, as a pattern.
        task: of the run.
        options: further ones of the run.
    """

    changes: dict[str, Change]
    reason: str
    task: str = "classification"
    options: dict[str, OptionValue] = field(default_factory=dict)


def with_sums(change: Callable[[Sums], Sums]) -> Change:
    def changed(reply: Message) -> Message:
        sums = unpack(reply.content.array_records["statistics"])
        reply.content["statistics"] = pack({**sums, **change(sums)})  # type: ignore[arg-type]
        return reply

    return changed


def with_description(**values: Any) -> Change:
    def changed(reply: Message) -> Message:
        named = {name.replace("_", "-"): value for name, value in values.items()}
        reply.content["node"] = ConfigRecord({**dict(reply.content.config_records["node"]), **named})
        return reply

    return changed


def with_weight(reply: Message) -> Message:
    reply.content["metrics"] = MetricRecord({**dict(reply.content.metric_records["metrics"]), "num-examples": 1e7})
    return reply


def with_error(reply: Message) -> Message:
    return Message(Error(2, f"{ESCAPE}out of memory\u202e"), reply_to=reply)


def rising(sums: Sums) -> Sums:
    """Let one more image reach a high threshold than a low one."""
    auroc = sums[f"validation/{HEAD}/auroc"].copy()
    auroc[60, 0] = [[-1e3, auroc[0, 0, 0].sum() + 1e3], auroc[60, 0, 1]]
    return {f"validation/{HEAD}/auroc": auroc}


def other_classes(sums: Sums) -> Sums:
    """Count a billion images of each class, and give them the sums of the next class."""
    scale, total = 1e9 / np.maximum(sums["count"], 1.0), 1e9 * CLASSES / sums["count"].sum()
    return {
        "count": np.full(CLASSES, 1e9),
        "sum": np.roll(sums["sum"] * scale[:, None], 1, axis=0),
        "outer": sums["outer"] * total,
        "picture": sums["picture"] * total,
    }


def distances(position: int) -> Callable[[Sums], Sums]:
    def change(sums: Sums) -> Sums:
        changed = {key: value.copy() for key, value in sums.items() if key.endswith("distance")}
        for value in changed.values():
            value[position] += 1e9
        return changed

    return change


def own_larger(sums: Sums) -> Sums:
    """Multiply the embeddings of the site's own network by a million."""
    return {"own/sum": sums["own/sum"] * 1e6, "own/outer": sums["own/outer"] * 1e12}


def own_scattered(sums: Sums) -> Sums:
    return {"own/outer": sums["own/outer"] + 1e12 * np.eye(len(sums["own/outer"]))}


def all_right(sums: Sums) -> Sums:
    keys = [key for key in sums if key.startswith("test/") and key.endswith("/confusion")]
    return {key: sums[key] + 1e6 * np.eye(CLASSES) for key in keys}


def described(reason: str, **values: Any) -> Lie:
    return Lie({DESCRIBE: with_description(**values)}, reason)


def measured(kind: str, change: Callable[[Sums], Sums], reason: str, task: str = "classification") -> Lie:
    return Lie({kind: with_sums(change)}, reason, task)


PIGGYBACK: dict[str, OptionValue] = {"classification.readings": "piggyback"}
BILLION = [10**9] * CLASSES
LIES = {
    "bins of the AUC that rise": measured(HEADS, rising, "not whole numbers|different images"),
    "a false start of the classifier": measured(EVALUATE, lambda sums: {"initial/nll": np.array(-1e14)}, "likelihoods"),
    "a false start of the diffusion model": measured(
        EVALUATE, lambda sums: {"initial/loss-sum": np.full(4, -1e14)}, "losses are negative", "diffusion"
    ),
    "a billion images of other classes": Lie(
        {
            DESCRIBE: with_description(train_counts=BILLION, validation_counts=BILLION),
            MOMENTS: with_sums(other_classes),
        },
        "moments count 1e\\+10 images, but it trained on",
    ),
    "more training images than described": Lie({TRAIN: with_weight}, "trained on 10000000 images, but described"),
    "a billion images at no distance": measured(HEADS, distances(0), "distances and heads on different images"),
    "a billion images infinitely far": measured(HEADS, distances(-1), "distances and heads on different images"),
    "likelihoods beyond all bounds": measured(
        HEADS,
        lambda sums: {f"validation/{HEAD}/nll-tempered": sums[f"validation/{HEAD}/nll-tempered"] + 1e14},
        "likelihoods are smaller than any",
    ),
    "a million right answers a class": measured(HEADS, all_right, "more test images than it said"),
    "more moments than described": measured(
        MOMENTS, lambda sums: {"count": sums["count"] + 1}, "more images than it said|as many images"
    ),
    "huge embeddings of its own network": Lie(
        {TRAIN: with_sums(own_larger)}, "the means of its embeddings are .* long", options=PIGGYBACK
    ),
    "scattered embeddings of its own network": Lie(
        {TRAIN: with_sums(own_scattered)}, "its embeddings scatter .* times as much", options=PIGGYBACK
    ),
    "a name of a megabyte": described("has at most 64 letters", site="x" * 10**6),
    "a name that is a folder above": described("A node calls itself '..'", site=".."),
    "counts of 2^62": described("'site-1' sent counts of images", train_counts=[2**62] * CLASSES),
    "another site's name": described("Two nodes call themselves 'site-0'", site="site-0"),
    "a name of two lines": described("A node calls itself 'site-1 x'", site="site-1\nx"),
    "a name in HTML": described("A node calls itself '<b>site-1</b>'", site="<b>site-1</b>"),
    "negative counts": described("'site-1' sent counts of images", train_counts=[-1] * CLASSES),
    "fewer unreadable files than none": described("an impossible number of unreadable files", unreadable_files=-5),
    "2^62 unreadable files": described("an impossible number of unreadable files", unreadable_files=2**62),
    "2^62 shares of the test set": described("an impossible number of unreadable files", test_shares=2**62),
    "another share of the test set": described("10 test images; its share", test_counts=[1] * CLASSES),
    "no counts": described("'site-1' sent counts of images", test_counts=[]),
    "other classes": described("'site-1' has other classes", class_names=[*"abcdefghij"]),
    "seven channels": described("'site-1' has other channels", num_channels=7),
    "class names that are commands": described("'site-1' has other classes", class_names=[ESCAPE] * CLASSES),
    "an error that is a command": Lie({MOMENTS: with_error}, "out of memory"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_no_run_and_is_refused_by_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lie = LIES[name]
    options: dict[str, OptionValue] = {"tasks": lie.task, "data.limit": 120}
    options |= {f"{lie.task}.num-rounds": 1, "federation.min-nodes": 2, "federation.min-replies": 2}
    options |= lie.options

    def meddle(instruction: Message, reply: Message) -> Message | None:
        change = lie.changes.get(instruction.metadata.message_type)
        return change(reply) if change and instruction.metadata.dst_node_id == LIAR else reply

    with caplog.at_level("DEBUG"):
        run_federation(tiny_run(tmp_path, options), 3, meddle=meddle)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["state"] == "degraded"
    (liar,) = [site for site in ("site-1", f"node-{LIAR}") if site in status["nodes"] and site in status["reason"]]
    reasons = " ".join(status["nodes"][liar]["reasons"])
    assert re.search(lie.reason, reasons), reasons
    assert status["nodes"][liar]["failed" if "error" in name else "refused"] > 0
    for site in ("site-0", "site-2"):
        assert status["nodes"][site]["contributed"] == 1 and not status["nodes"][site]["reasons"]
    assert (tmp_path / f"run/{lie.task}/model").is_dir()
    written = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.json*"))
    assert not any(sign in written + caplog.text for sign in ("\x1b", "\\u001b", "\u202e", "\\u202e"))
    assert max(map(len, caplog.text.splitlines())) < 2000
    if lie.task == "classification":
        exported = json.loads((tmp_path / "run/classification/prototypes/round-0001.json").read_text())
        assert all(row["figures"]["n"] <= 359 for row in exported["results"])
        assert exported["images"] <= 120


def losses_of_diffusion(tmp_path: Path, name: str, has_learned: bool) -> None:
    """Run with a site whose losses of one model are as large as a site may send them."""

    def meddle(instruction: Message, reply: Message) -> Message | None:
        kind = instruction.metadata.message_type
        if kind == TRAIN and not has_learned:
            reply.content["weights"] = instruction.content["weights"]
        if kind == EVALUATE and instruction.metadata.dst_node_id == LIAR:
            return with_sums(lambda sums: {f"{name}/loss-sum": 1e4 * sums[f"{name}/loss-count"]})(reply)
        return reply

    options: dict[str, OptionValue] = {"diffusion.num-rounds": 1, "diffusion.ema-horizon": 0.0, "data.limit": 120}
    run_federation(tiny_run(tmp_path, options), 3, meddle=meddle)


def test_one_site_cannot_say_for_all_that_nothing_was_learned(tmp_path: Path) -> None:
    losses_of_diffusion(tmp_path, "raw", has_learned=True)
    assert (tmp_path / "run/diffusion/model").is_dir()


def test_one_site_cannot_say_for_all_that_something_was_learned(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="Nothing was learned"):
        losses_of_diffusion(tmp_path, "initial", has_learned=False)


def made_up_losses(reply: Message) -> Message:
    """Measure held-out images that do not exist, on which the untrained model alone is good."""

    def change(sums: Sums) -> Sums:
        losses = {key: np.full(4, 0.1 if key.startswith("initial/") else 9.0) for key in sums if "loss-sum" in key}
        return losses | {key: np.ones(4) for key in sums if "loss-count" in key}

    return with_sums(change)(reply)


@pytest.mark.parametrize(
    ("task", "measurement"),
    [("classification", with_error), ("diffusion", with_error), ("diffusion", made_up_losses)],
)
def test_where_no_other_site_holds_images_out_those_of_one_decide_nothing(
    task: str, measurement: Change, tmp_path: Path
) -> None:
    changes = {DESCRIBE: with_description(validation_counts=[1] * CLASSES), EVALUATE: measurement}

    def meddle(instruction: Message, reply: Message) -> Message | None:
        change = changes.get(instruction.metadata.message_type)
        return change(reply) if change and instruction.metadata.dst_node_id == LIAR else reply

    options: dict[str, OptionValue] = {"tasks": task, "data.limit": 120, "data.validation-share": 0.0}
    run_federation(tiny_run(tmp_path, options), 3, meddle=meddle)
    assert (tmp_path / f"run/{task}/model").is_dir()
    status = json.loads((tmp_path / "run/status.json").read_text())
    if measurement is with_error:
        assert status["state"] == "degraded" and "site-1 once failed" in status["reason"]
