"""What a node answers: a row for each type of message. A type without a row is refused.

`agreed` compares a message with its row's rounds and weights, `history` compares its weights, decides what a late node
does, and keeps answers. The handlers in `client` take the minimums.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from fl_app.messages.quality import QUALITY
from fl_app.messages.records import DESCRIBE, EVALUATE, HEADS, MEMBERSHIP, MOMENTS, TRAIN
from fl_app.messages.replay import DRAW
from fl_app.node.permissions import NotAllowedError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.tasks import Task

Minimum = Literal["min_images", "min_held_out", "min_class_count"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """How a node treats a type of message; only `minimums` and `brings_weights` also hold at a simulated node.

    Attributes:
        rounds: that a message may be of, by the run's options; none: the run does not ask this.
        refusal: what is said of any other round, of `kind`, `number`, `last` (of the task), and the rounds as `listed`.
        begins: whether a message of round 1 begins the run: its weights are those of the seed, and the node forgets an
            earlier run of the name.
        brings_weights: whether a message about a task holds weights; they must lie near the last ones that the node
            accepted.
        may_lag: whether these may be an average, which lies some rounds behind and does not take the last ones' place.
        further: other weights that a message may hold.
        num_made: how many rounds have made the weights, of the message's round and the task's last.
        late: what a node that has not seen round 1 does, unless the run allows late joining: it refuses; it refuses to
            send sums by class; or it answers, without these.
        kept_as: name of the sums that are measured once in a round, and are the same if asked for again; empty: they
            are measured again.
        minimums: node options, of which the largest is the fewest images that a sum is over; `images.load_local`
            applies `min-images` and `min-held-out` to whole parts before.
    """

    rounds: Callable[[Task, RunConfig], Collection[int]]
    refusal: str = ""
    begins: bool = False
    brings_weights: Callable[[Task], bool] = lambda task: True
    may_lag: bool = False
    further: tuple[str, ...] = ()
    num_made: Callable[[int, int], int] = lambda number, last: number
    late: Literal["refused", "refused by class", "without sums by class"] = "refused"
    kept_as: str = ""
    minimums: tuple[Minimum, ...] = ("min_images", "min_held_out")

    def fewest(self, node: NodeConfig) -> int:
        """Return the fewest images that a sum may be over."""
        return max(int(getattr(node, one)) for one in self.minimums)

    def further_of(self, task: Task) -> tuple[str, ...]:
        """Return the names of other weights that a message about a task may hold; a classifier has no averages."""
        return tuple(one for one in self.further if one == "initial" or not _is_classifier(task))


def _is_classifier(task: Task) -> bool:
    return isinstance(task.options, ClassificationOptions)


def _all_rounds(task: Task, config: RunConfig) -> Collection[int]:
    return range(1, task.options.num_rounds + 1)


def _last_round(task: Task, config: RunConfig) -> Collection[int]:
    return (task.options.num_rounds,)


def _exchanges(task: Task, config: RunConfig) -> Collection[int]:
    return sorted(task.options.exchange_rounds) if isinstance(task.options, ClassificationOptions) else ()


NOTHING = (
    "for '{kind}' after round {number}, and by its options the run asks nothing of this kind. Change the options, and "
    "not the message"
)
_NO_EXCHANGE = (
    "for '{kind}' after round {number}; by 'num-rounds' and 'prototype-rounds' prototypes are exchanged after these "
    "rounds: {listed}. Begin a run with other ones"
)

QUESTIONS: dict[str, Question] = {
    DESCRIBE: Question(rounds=lambda task, config: (), brings_weights=lambda task: False),  # of no task
    TRAIN: Question(
        rounds=_all_rounds,
        refusal="to train in round {number}, and the run's option 'num-rounds' is {last}. Begin a run with more rounds",
        begins=True,
        further=("ema", "node-ema"),
        num_made=lambda number, last: number - 1,
        late="without sums by class",
        kept_as="own-moments",
        minimums=("min_images",),  # of each step; own moments have the minimum of MOMENTS
    ),
    EVALUATE: Question(
        rounds=lambda task, config: (0,),
        refusal="for a final measurement of round {number}, and there is one alone, of round 0. Send 0",
        further=("ema", "node-ema", "initial"),
        num_made=lambda number, last: last,
        late="refused by class",
    ),
    MOMENTS: Question(rounds=_exchanges, refusal=_NO_EXCHANGE, kept_as="moments", minimums=("min_class_count",)),
    HEADS: Question(rounds=_exchanges, refusal=_NO_EXCHANGE, minimums=("min_held_out",)),
    MEMBERSHIP: Question(
        rounds=lambda task, config: _last_round(task, config) if config.audit.membership else (),
        refusal="for '{kind}' after round {number}; by 'audit.membership' and 'num-rounds' the run asks after round "
        "{last}. Change the options, and not the message",
        may_lag=True,
        kept_as="membership",
    ),
    QUALITY: Question(
        rounds=_last_round,
        refusal="to judge generated images of round {number}, and only those of the last one, {last}, are judged. Send "
        "this number",
        brings_weights=_is_classifier,
        kept_as="quality",
    ),
    DRAW: Question(
        rounds=_all_rounds,
        refusal="to draw images with the weights of round {number}, and the run's option 'num-rounds' is {last}. Send "
        "those of the exported round",
        may_lag=True,
        late="refused by class",
    ),
}  # the images that DRAW makes are kept: see `replay`


def question_of(message_type: str) -> Question:
    """Return the row of a type of message; raises NotAllowedError if it has none."""
    if message_type not in QUESTIONS:
        raise NotAllowedError(
            f"this node was sent a message of the kind '{message_type[:40]}', and answers only: {', '.join(QUESTIONS)}"
        )
    return QUESTIONS[message_type]
