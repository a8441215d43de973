"""Every type of message has a row that says what a node answers; a type without one is refused."""

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

import client_app
from fl_app.flower import identify
from fl_app.messages.quality import QUALITY
from fl_app.messages.records import CONFIG, DESCRIBE, EVALUATE, HEADS, MEMBERSHIP, MOMENTS, TRAIN, instruction_config
from fl_app.messages.replay import DRAW
from fl_app.node import client
from fl_app.node.distances import length
from fl_app.node.history import ALWAYS_ALLOWED
from fl_app.node.questions import QUESTIONS
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from tests.federation import LocalGrid
from tests.node.test_history import NUM_ROUNDS, Hospital, moved, refused
from tests.options import run_config

UNKNOWN = ("query.images", "train.default", "evaluate.default", "train.again")


def test_every_registered_type_of_message_has_a_row_and_every_row_a_type() -> None:
    registered = {name.removesuffix(".default") for name in client_app.app._registered_funcs}
    assert registered == set(QUESTIONS)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_type_without_a_row_is_refused_whatever_the_weights(tmp_path: Path, kind: str) -> None:
    hospital = Hospital(tmp_path)
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    for number in (0, 1, NUM_ROUNDS):
        assert "answers only: query.describe, train" in refused(hospital, kind, number, own)


@pytest.mark.parametrize("is_hospital", [True, False])
@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_handler_refuses_a_type_without_a_row_before_it_reads_an_image(
    tmp_path: Path, kind: str, is_hospital: bool
) -> None:
    identify(1, 1)
    own: dict[str, OptionValue] = {
        "data-path": str(tmp_path / "no-images"),
        "site": "north",
        "state-dir": str(tmp_path),
    }
    simulated: dict[str, OptionValue] = {"partition-id": 0, "num-partitions": 2}
    node = own if is_hospital else simulated
    context = Context(1, 1, node, RecordDict(), dict(run_config({"tasks": "classification"}).to_flat()))
    reply = client.train(Message(RecordDict(), dst_node_id=1, message_type=kind), context)
    assert reply.has_error() and "this node was sent a message of the kind" in str(reply.error.reason)
    assert not list(tmp_path.glob("counts@*"))


def test_flowers_other_name_of_training_is_no_way_around_the_limit_of_rounds(tmp_path: Path) -> None:
    identify(1, 1)
    node = {"data-path": str(tmp_path), "site": "north", "state-dir": str(tmp_path), "max-rounds-per-day": 1}
    hospital = Hospital(tmp_path)
    grid = LocalGrid(hospital.config, 1, node_options={0: node})
    content = RecordDict({CONFIG: instruction_config("classification", 1, "run", "")})
    (key,) = grid.push_messages([Message(content, dst_node_id=1000, message_type="train.default")])
    (reply,) = grid.pull_messages([key])
    assert "of the kind 'train.default'" in str(reply.error.reason)


def test_a_question_about_no_task_is_none_that_brings_weights(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    assert "needs none" in refused(hospital, DESCRIBE, 1, hospital.initial())
    assert "the run asks nothing of this kind" in refused(hospital, DESCRIBE, 1, {})


def test_prototypes_of_a_task_that_has_none_are_refused(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"tasks": "diffusion", "diffusion.block-channels": "8,8"})
    assert "the run asks nothing of this kind" in refused(hospital, MOMENTS, NUM_ROUNDS, {}, task="diffusion")


def test_a_refusal_costs_no_list_of_all_the_rounds(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"classification.num-rounds": 10**12})
    assert "'num-rounds' is 1000000000000" in refused(hospital, TRAIN, 10**12 + 1, {})


def test_no_row_becomes_weaker_by_accident() -> None:
    node = NodeConfig.from_flat({"min-images": 7, "min-held-out": 9, "min-class-count": 3})
    rows = {kind: (one.late, one.kept_as, one.fewest(node)) for kind, one in QUESTIONS.items()}
    assert rows == {
        DESCRIBE: ("refused", "", 9),
        TRAIN: ("without sums by class", "own-moments", 7),
        EVALUATE: ("refused by class", "", 9),
        MOMENTS: ("refused", "moments", 3),
        HEADS: ("refused", "", 9),
        MEMBERSHIP: ("refused", "membership", 9),
        QUALITY: ("refused", "quality", 9),
        DRAW: ("refused by class", "", 9),
    }
    assert {kind for kind, one in QUESTIONS.items() if one.may_lag} == {MEMBERSHIP, DRAW}
    assert {kind for kind, one in QUESTIONS.items() if one.further} == {TRAIN, EVALUATE}


def test_a_final_measurement_allows_the_step_of_the_last_round_and_no_more(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    own = hospital.initial()
    last, step = moved(own, 0.1), ALWAYS_ALLOWED * length(own)
    hospital.ask(TRAIN, 1, own)
    hospital.ask(TRAIN, NUM_ROUNDS, last)
    assert "away from the last ones" in refused(hospital, EVALUATE, 0, moved(last, 1.5 * step))
    hospital.ask(EVALUATE, 0, moved(last, 0.9 * step))
