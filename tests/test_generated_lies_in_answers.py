"""Lies of one site of three in every field of every answer beside training, made from the answers.

A server asks sites about generated images, lets them draw some, and audits their models. Each lie is told to the
strategy that asked, in a whole run whose honest answers are remembered: it is rejected by name, named beside a figure,
or harmless. A new question, field or sum is lied about without a change here.
"""

import json
import random

import pytest

from fl_app.messages.quality import QUALITY
from fl_app.messages.records import MEMBERSHIP
from fl_app.messages.replay import DRAW
from tests.lies.answers import judge_answer
from tests.lies.messages import fields_of, lies_in
from tests.lies.questions import Asked
from tests.lies.replay import LIAR

pytestmark = pytest.mark.usefixtures("undrawn")

SEED = 0
QUESTIONS = (
    *(f"{QUALITY} {measured}" for measured in ("curve", "pixels", "classifier", "usefulness")),
    MEMBERSHIP,
    DRAW,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("asked"))


def test_these_are_all_questions_of_a_server(asked: Asked) -> None:
    assert sorted(asked.questions) == sorted(QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_lie_is_rejected_by_name_or_named_or_harmless(name: str, asked: Asked) -> None:
    question = asked.questions[name]
    verdicts = {lie.id: judge_answer(asked, question, lie.make()) for lie in lies_in(question.kind, question.truth)}
    bad = {lie: verdict.why for lie, verdict in verdicts.items() if verdict.kind in ("passed", "ended")}
    assert not bad, "\n".join(f"{lie}: {why}" for lie, why in bad.items())
    rejected = [verdict.why for verdict in verdicts.values() if verdict.kind == "rejected"]
    assert len(rejected) > 0.5 * len(verdicts) and all(rejected)
    assert not any("could not be judged" in why for why in rejected)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_sum_that_is_asked_for_is_lied_about(name: str, asked: Asked) -> None:
    question = asked.questions[name]
    fields = fields_of(question.truth)
    sums = {field.removeprefix("statistics/") for field in fields if field.startswith("statistics/")}
    assert sums == question.honest[LIAR].keys() and {"node/site"} == {one for one in fields if "statistics" not in one}
    for field in fields:
        assert sum(lie.field == field for lie in lies_in(question.kind, question.truth, field.__eq__)) >= 5, field


def test_the_truth_is_harmless(asked: Asked) -> None:
    verdicts = {name: judge_answer(asked, one, one.truth).kind for name, one in asked.questions.items()}
    assert set(verdicts.values()) == {"harmless"}, verdicts


def test_a_rejected_lie_degrades_the_whole_run_and_the_run_names_its_site(asked: Asked) -> None:
    for name in (f"{QUALITY} pixels", MEMBERSHIP, DRAW):
        question = asked.questions[name]
        lies = [lie for lie in lies_in(question.kind, question.truth) if lie.field.startswith("statistics/")]
        random.Random(SEED).shuffle(lies)
        lie = next(lie for lie in lies if judge_answer(asked, question, lie.make()).kind == "rejected")
        status = json.loads((asked.run_whole({question.kind: lie.make()}) / "status.json").read_text())
        assert status["state"] == "degraded" and status["nodes"][LIAR]["reasons"], lie.id
        assert not any(one["reasons"] for site, one in status["nodes"].items() if site != LIAR)
