"""Lies of one site of three in every field of every message, made from the messages: rejected by name, or harmless.

Each is told to the real strategy, which gets the answers of the honest nodes from memory; some go through the whole
server. A new field of a message, or a new sum, is lied about without a change here. `benchmarks.generated_lies` tells
all of them.
"""

import dataclasses
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from fl_app.data.images import DatasetInfo
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.descriptions import SiteDescription
from fl_app.messages.records import DESCRIBE, EVALUATE, HEADS, MOMENTS, TRAIN, Reply
from fl_app.strategies.agreement import agree
from tests.lies.messages import Lie, fields_of, lies_in
from tests.lies.replay import LIAR, LIAR_NODE, Federation
from tests.lies.scenarios import SCENARIOS, build, chosen_lies, group, one_of_each_group
from tests.lies.verdicts import judge

pytestmark = pytest.mark.usefixtures("undrawn")

Federations = dict[str, Federation]

SEED = 0
NUM_LIES = {"classification": 3, "readings": 2, "diffusion": 2}  # about each field that is lied about
NUM_WHOLE = 8  # lies that go through the whole server
WEIGHTS = f"{TRAIN} weights/*"


@pytest.fixture(scope="module")
def federations(tmp_path_factory: pytest.TempPathFactory) -> Federations:
    """Federations by scenario; each trains when it is first asked."""
    return {name: build(name, tmp_path_factory.mktemp(name)) for name in SCENARIOS}


def groups_of(federation: Federation) -> set[str]:
    return {f"{kind} {group(one)}" for kind, content in federation.truths().items() for one in fields_of(content)}


def lies_of(name: str, federations: Federations) -> Iterator[Lie]:
    """Yield lies about one field of each group; later scenarios lie about what the first one does not have."""
    known = groups_of(federations["classification"]) - {WEIGHTS} if name != "classification" else set()
    for kind, content in federations[name].truths().items():
        new = [one for one in fields_of(content) if f"{kind} {group(one)}" not in known]
        yield from chosen_lies(kind, content, one_of_each_group(new, SEED), NUM_LIES[name], SEED)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_lie_is_rejected_by_name_or_harmless(name: str, federations: Federations) -> None:
    verdicts = {lie.id: judge(federations[name], {lie.kind: lie.make()}) for lie in lies_of(name, federations)}
    bad = {lie: verdict.why for lie, verdict in verdicts.items() if verdict.kind in ("passed", "ended")}
    assert not bad, "\n".join(f"{lie}: {why}" for lie, why in bad.items())
    kinds = [verdict.kind for verdict in verdicts.values()]
    assert kinds.count("rejected") > 0.5 * len(kinds)
    assert all(verdict.why for verdict in verdicts.values() if verdict.kind == "rejected")


def test_a_lie_that_agrees_with_a_false_description_is_rejected_by_name_or_harmless(federations: Federations) -> None:
    truths = federations["classification"].truths()
    node: dict[str, Any] = dict(truths[DESCRIBE].config_records["node"])
    twice = {f"{part}-counts": [2 * count for count in node[f"{part}-counts"]] for part in ("train", "validation")}
    claims = {DESCRIBE: RecordDict({"node": ConfigRecord({**node, **twice})})}
    liar = federations["classification"].claiming(claims)
    wanted = {"all doubled", "all a thousand times", "doubled", "one more", "all one more", "in reverse"}
    sums = {TRAIN: {"metrics"}, MOMENTS: {"statistics"}, HEADS: {"statistics"}, EVALUATE: {"statistics"}}
    for kind, records in sums.items():
        fields = one_of_each_group([one for one in fields_of(truths[kind]) if one.split("/")[0] in records], SEED)
        told = [lie for lie in lies_in(kind, truths[kind], fields.__contains__) if lie.name in wanted]
        for lie in random.Random(SEED).sample(told, 8):
            verdict = judge(liar, {kind: lie.make()})
            assert verdict.kind not in ("passed", "ended"), f"{lie.id}: {verdict.why}"


def test_a_site_that_swaps_its_classes_everywhere_is_rejected(federations: Federations) -> None:
    federation = federations["classification"]
    truths = federation.truths()
    node: dict[str, Any] = dict(truths[DESCRIBE].config_records["node"])
    swapped = {"train-counts": [*node["train-counts"][1:], *node["train-counts"][:1]]}
    moments = unpack(truths[MOMENTS].array_records["statistics"])
    moments |= {key: np.roll(moments[key], -1, axis=0) for key in ("count", "sum", "withheld")}
    false = {
        DESCRIBE: RecordDict({"node": ConfigRecord({**node, **swapped})}),
        MOMENTS: RecordDict({**truths[MOMENTS], "statistics": pack(moments)}),
    }
    verdict = judge(federation, false)
    assert verdict.kind == "rejected" and "take the class means of its sums for other classes" in verdict.why, verdict


def test_lies_take_the_same_way_through_the_whole_server(federations: Federations) -> None:
    federation = federations["classification"]
    lies = list(lies_of("classification", federations))
    for lie in random.Random(SEED).sample(lies, NUM_WHOLE):
        verdict = judge(federation, {lie.kind: lie.make()})
        folder = federation.run_whole({lie.kind: lie.make()})
        status = json.loads((folder / "status.json").read_text())
        said = [" ".join(status["nodes"].get(site, {}).get("reasons", ())) for site in (LIAR, f"node-{LIAR_NODE}")]
        assert status["state"] == ("degraded" if verdict.kind == "rejected" else "completed"), lie.id
        words = " ".join(said)
        assert bool(words.strip()) == (verdict.kind == "rejected"), f"{lie.id}: {verdict.why}; the run says: {words}"
        assert (folder / "classification" / "model").is_dir()


def test_no_description_of_one_site_of_three_decides_what_all_agree_on(federations: Federations) -> None:
    federation = federations["classification"]
    for lie in lies_in(DESCRIBE, federation.truths()[DESCRIBE]):
        federation.grid.false = {DESCRIBE: lie.make()}
        assert agree(federation.grid, 60.0, federation.config.data, {}) == federation.info, lie.id


def leaves(kind: type) -> int:
    """Count the fields of a dataclass, those of a dataset's info one by one."""
    return sum(leaves(DatasetInfo) if one.type is DatasetInfo else 1 for one in dataclasses.fields(kind))


def test_every_field_of_a_description_and_of_a_reply_travels_and_is_lied_about(federations: Federations) -> None:
    truths = federations["diffusion"].truths()
    assert len(fields_of(truths[DESCRIBE])) == leaves(SiteDescription)
    groups = {
        group(one).replace("statistics/raw/", "statistics/").partition("/")[0] for one in fields_of(truths[TRAIN])
    }
    values = [one for one in fields_of(truths[TRAIN]) if one.split("/")[0] in ("metrics", "node")]
    assert groups == {"weights", "node-ema", "statistics", "metrics", "node"}
    # `metrics` holds what an ordinary Flower app sends; the three records of arrays are one field each
    assert len(values) + 3 == leaves(Reply) - 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_sums_that_the_server_asks_for_are_lied_about(name: str, federations: Federations) -> None:
    strategy = federations[name].honest.strategy
    sums = {
        one.removeprefix("statistics/") for one in fields_of(federations[name].truths()[TRAIN]) if "statistics" in one
    }
    assert sums == strategy.expected_sums().keys()
    for kind, content in federations[name].truths().items():
        for one in one_of_each_group(fields_of(content), SEED):
            told = [lie.name for lie in lies_in(kind, content, one.__eq__) if lie.field == one]
            assert len(told) >= 5, f"{kind} {one}: {told}"
