"""A run goes on with whoever is connected, waits only below its quorum, and says who was lost, when and why."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

from fl_app.errors import FederationError
from fl_app.flower import ErrorCode
from fl_app.messages.arrays import pack, unpack
from fl_app.options.federation import FederationOptions
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import RoundLine
from fl_app.runs.folder import RunFolder
from fl_app.strategies.agreement import ask_descriptions
from tests.federation import run_federation
from tests.options import run_config
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

SITES = ["site-0", "site-1", "site-2"]
THREE: dict[str, OptionValue] = {
    "federation.min-nodes": 3,
    "federation.min-replies": 0,
    "federation.wait-seconds": 0.1,
    "diffusion.num-rounds": 4,
    "diffusion.ema-horizon": 0.0,
}


def rounds_begun(sent: Sequence[Message]) -> int:
    """Count the rounds whose instructions were sent."""
    configs = [one.content.config_records["config"] for one in sent if one.metadata.message_type == "train"]
    return len({str(config["server-round"]) for config in configs})


def away(*names: str, after: int, until: int = 1000) -> Callable[[int, Sequence[Message]], bool]:
    """Say that sites are not connected once `after` rounds have begun, until `until` have."""
    numbers = [SITES.index(name) for name in names]
    return lambda number, sent: number in numbers and after <= rounds_begun(sent) < until


def lines(tmp_path: Path) -> list[RoundLine]:
    return RunFolder(tmp_path / "run").read_metrics()


def status(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "run/status.json").read_text())
    return found


def outcomes(line: RoundLine) -> list[str]:
    return [line.nodes[site].outcome if site in line.nodes else "not asked" for site in SITES]


def federation(**changed: int) -> FederationOptions:
    return run_config({}).federation.model_copy(update=changed)


@pytest.mark.parametrize(
    ("changed", "quorum", "at_start"),
    [
        ({"min_nodes": 5}, 2, 5),
        ({"min_nodes": 1}, 1, 1),
        ({"min_nodes": 5, "nodes_per_round": 1}, 1, 5),
        ({"min_nodes": 5, "min_replies": 1}, 1, 5),
        ({"min_nodes": 2, "min_replies": 4}, 4, 4),
    ],
)
def test_two_sites_make_a_quorum_unless_fewer_were_asked_for(
    changed: dict[str, int], quorum: int, at_start: int
) -> None:
    options = federation(**changed)
    assert (options.quorum, options.nodes_at_start) == (quorum, at_start)


def test_one_of_three_lost_for_good_costs_no_round(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, THREE), 3, is_away=away("site-1", after=1))
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 4
    assert [outcomes(line) for line in lines(tmp_path)] == [
        ["contributed"] * 3,
        *[["contributed", "absent", "contributed"]] * 3,
    ]
    found = status(tmp_path)
    assert found["state"] == "degraded"
    assert found["reason"].startswith("site-1 4 times absent (first: round 2 of diffusion, 20")  # … and at the end
    assert found["reason"].endswith(": it was not connected)")
    assert (tmp_path / "run/diffusion/model").is_dir()


def test_with_two_of_three_gone_the_run_waits_says_for_whom_and_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(
        FederationError,
        match=r"^1 of 2 sites connected within 0.1 s: site-0; missing: site-1, site-2\. Start the missing nodes, or "
        r"lower 'federation.min-replies'\. The run can be resumed with resume = ",
    ):
        run_federation(tiny_run(tmp_path, THREE), 3, is_away=away("site-1", "site-2", after=2))
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 2, "a wait in vain is no failed round"
    assert status(tmp_path)["state"] == "failed" and "missing: site-1, site-2" in status(tmp_path)["reason"]

    resumed = tiny_run(tmp_path, {**THREE, "resume": str(tmp_path / "run")})
    run_federation(resumed, 3, is_away=away("site-2", after=0))  # two are a quorum: a resumed run waits for no third
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 4
    assert outcomes(lines(tmp_path)[3]) == ["contributed", "contributed", "absent"]
    assert status(tmp_path)["state"] == "degraded"


def test_while_it_waits_the_run_says_who_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def look(_seconds: float) -> None:
        found = status(tmp_path)
        said.append(f"{found['state']}: {found['reason']}")

    monkeypatch.setattr("fl_app.strategies.attendance.time.sleep", look)
    options: dict[str, OptionValue] = {**THREE, "federation.wait-seconds": 5.0}
    times: list[int] = []

    def is_away(number: int, sent: Sequence[Message]) -> bool:
        times.append(number)
        return number > 0 and rounds_begun(sent) == 1 and len(times) < 60

    run_federation(tiny_run(tmp_path, options), 3, is_away=is_away)
    assert said[0] == "waiting: 1 of 2 nodes are connected; missing: site-1, site-2"
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 4


def test_a_site_that_returns_is_in_the_next_round(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, THREE), 3, is_away=away("site-2", after=1, until=2))
    assert [outcomes(line)[2] for line in lines(tmp_path)] == ["contributed", "absent", "contributed", "contributed"]


def test_a_new_run_waits_for_all_that_were_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"^2 of 3 nodes connected within 0.1 s: site-0, site-2\. Start the"):
        run_federation(tiny_run(tmp_path, THREE), 3, is_away=away("site-1", after=0))
    assert lines(tmp_path) == []
    described = status(tmp_path)["described"]
    assert list(described) == ["site-0", "site-2"] and sum(described["site-0"]["train"]) > 0


def test_from_the_first_round_on_run_json_alone_says_what_sites_hold(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path), 2)
    assert status(tmp_path)["described"] == {}


def test_nodes_are_drawn_from_those_that_are_connected(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**THREE, "federation.nodes-per-round": 2, "diffusion.num-rounds": 6}
    run_federation(tiny_run(tmp_path, options), 3, is_away=away("site-0", after=2))
    asked = [line.asked for line in lines(tmp_path)]
    assert asked[2:] == [["site-1", "site-2"]] * 4
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 6


def test_prototypes_and_the_final_measurement_do_without_a_lost_site(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**THREE, "tasks": "classification", "data.limit": 200}
    run_federation(tiny_run(tmp_path, options), 3, is_away=away("site-1", after=2))
    (path,) = (tmp_path / "run/classification/prototypes").glob("round-*.json")
    result = json.loads(path.read_text())
    assert result["contributed"] == ["site-0", "site-2"]
    assert result["left-out"]["site-1"]["outcome"] == "absent"
    assert (tmp_path / "run/classification/model").is_dir()
    found = status(tmp_path)
    assert found["state"] == "degraded"
    assert found["reason"].startswith("site-1 2 times absent (first: prototypes of round 2 of classification, 20")


def test_the_pooled_baseline_needs_no_quorum_and_any_node_will_do(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        **THREE,
        "tasks": "classification",
        "data.limit": 200,
        "classification.baselines": "centralised",
    }

    def is_away(number: int, sent: Sequence[Message]) -> bool:
        pooled = [
            one for one in sent if one.content.config_records["config"].get("task") == "classification-centralised"
        ]
        return number == 0 and len(pooled) > 0

    run_federation(tiny_run(tmp_path, options), 3, is_away=is_away)
    pooled = [line for line in lines(tmp_path) if line.task == "classification-centralised"]
    assert [line.outcome for line in pooled] == ["ok", "ok"]
    assert [line.asked for line in pooled] == [["site-0"], ["site-1"]]


def test_a_lost_connection_is_told_in_our_words_with_round_and_time(tmp_path: Path) -> None:
    def lose(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records["config"]
        is_it = instruction.metadata.dst_node_id == 1001 and config.get("server-round") == 2
        if not is_it or instruction.metadata.message_type != "train":
            return reply
        said = "Error: Node Unavailable — The destination node failed to report a heartbeat within 2 x its interval."
        return Message(Error(ErrorCode.NODE_UNAVAILABLE, said), reply_to=instruction)

    run_federation(tiny_run(tmp_path, THREE), 3, meddle=lose)
    node = lines(tmp_path)[1].nodes["site-1"]
    assert (node.outcome, node.reason) == ("failed", "the connection to it was lost")
    (reason,) = status(tmp_path)["nodes"]["site-1"]["reasons"]
    assert reason.startswith("round 2 of diffusion, 20") and reason.endswith(": the connection to it was lost")


def test_a_run_does_not_begin_without_a_site_that_comes_late_because_a_stranger_came_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[float] = []
    monkeypatch.setattr("fl_app.strategies.attendance.time.sleep", polls.append)

    def spoil(instruction: Message, reply: Message) -> Message:
        is_stranger = instruction.metadata.dst_node_id == 1000 and instruction.metadata.message_type == "query.describe"
        return Message(Error(2, "it has no image"), reply_to=instruction) if is_stranger else reply

    options: dict[str, OptionValue] = {**THREE, "federation.wait-seconds": 60.0}
    run_federation(
        tiny_run(tmp_path, options), 4, meddle=spoil, is_away=lambda number, _: number == 3 and len(polls) < 3
    )
    assert len(polls) == 3
    assert lines(tmp_path)[0].asked == ["site-1", "site-2", "site-3"]


def test_a_round_that_does_not_count_is_no_measure_for_later_ones(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**THREE, "federation.round-deadline-seconds": 3.0}

    def lie_alone(instruction: Message, reply: Message) -> Message | None:
        config = instruction.content.config_records["config"]
        if instruction.metadata.message_type != "train":
            return reply
        if config["server-round"] == 1 and instruction.metadata.dst_node_id != 1001:
            return None  # late: the liar is alone
        if instruction.metadata.dst_node_id != 1001:
            return reply
        weights = unpack(reply.content.array_records["weights"])
        began = unpack(instruction.content.array_records["weights"])
        changed: dict[str, Any] = {key: np.array(value, np.float32) for key, value in weights.items()}
        far = {key: began[key] + 1000 * (value - began[key]) for key, value in changed.items()}
        reply.content["weights"] = pack({key: value.astype(weights[key].dtype) for key, value in far.items()})
        return reply

    run_federation(tiny_run(tmp_path, options), 3, meddle=lie_alone)
    assert [outcomes(line)[1] for line in lines(tmp_path)] == ["contributed", "refused", "refused", "refused"]
    assert [outcomes(line)[0] for line in lines(tmp_path)] == ["late", *["contributed"] * 3]


def test_a_node_that_is_not_fit_is_asked_again_while_the_run_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[float] = []
    monkeypatch.setattr("fl_app.strategies.attendance.time.sleep", polls.append)
    monkeypatch.setattr("fl_app.strategies.attendance._ASK_AGAIN_SECONDS", 0.0)

    def spoil(instruction: Message, reply: Message) -> Message:
        is_early = instruction.metadata.dst_node_id == 1002 and len(polls) < 2
        return Message(Error(2, "its folder is not mounted"), reply_to=instruction) if is_early else reply

    options: dict[str, OptionValue] = {**THREE, "federation.wait-seconds": 60.0}
    run_federation(tiny_run(tmp_path, options), 3, meddle=spoil)
    assert len(polls) == 2
    assert outcomes(lines(tmp_path)[0]) == ["contributed"] * 3


def test_a_silent_newcomer_does_not_hold_up_a_round_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def ask(grid: Any, nodes: Sequence[int], deadline_seconds: float) -> Any:
        limits.append(deadline_seconds)
        return ask_descriptions(grid, nodes, deadline_seconds)

    monkeypatch.setattr("fl_app.strategies.roster.ask_descriptions", ask)
    monkeypatch.setattr("fl_app.strategies.attendance._ASK_AGAIN_SECONDS", 0.3)

    def keep_silent(instruction: Message, reply: Message) -> Message | None:
        return None if instruction.metadata.dst_node_id == 1003 else reply

    options: dict[str, OptionValue] = {**THREE, "federation.wait-seconds": 5.0}

    def is_away(number: int, sent: Sequence[Message]) -> bool:
        return number == 3 and rounds_begun(sent) < 1

    run_federation(tiny_run(tmp_path, options), 4, meddle=keep_silent, is_away=is_away)
    assert limits == [5.0, 0.3]
    assert [line.outcome for line in lines(tmp_path)] == ["ok"] * 4
