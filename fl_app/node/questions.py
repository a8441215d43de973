"""What a node answers: a row for each type of message, and only what the run's options lead to.

A study fixes the options, but messages bring rounds, weights, heads and FedProx's term. Whatever the options do not
lead to would be further questions about the same images, or another training than the agreed one.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

from fl_app.classification.heads import HEADS as BUILT_IN_HEADS
from fl_app.messages.quality import QUALITY
from fl_app.messages.records import DESCRIBE, EVALUATE, HEADS, MEMBERSHIP, MOMENTS, TRAIN, Instruction
from fl_app.messages.replay import DRAW
from fl_app.node.permissions import NotAllowedError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.training import ClassificationOptions, TrainingOptions
from fl_app.plugins import BUILT_IN
from fl_app.tasks import Task

_SOURCES = ("global", "consistent", "own")


@dataclass(frozen=True, kw_only=True)
class Question:
    """How a node treats a type of message; at a simulated node only `brings_weights` and `minimums` hold.

    Attributes:
        rounds: that a message may be of, by the task's and the run's options; none: the run does not ask this.
        refusal: the end of the error about another round, of `number`, `last` (round of the task) and `listed` rounds.
        begins: a message of round 1 begins the run: with the weights of the seed, and without memory of earlier ones.
        brings_weights: whether a message holds weights, which must lie near the last ones that the node accepted.
        may_lag: they may be an average, which lies some rounds behind and does not take the last ones' place.
        further: other weights that a message may hold; a classifier has no averages.
        num_made: how many rounds made the weights, of the message's round and the last one.
        late: what a node does that has not seen round 1, unless the run allows late joining: it refuses; it refuses
            sums by class; or it answers, without these.
        kept_as: name of the sums that are measured once in a round, and are the same if asked for again; empty: none.
        minimums: node options; the largest is the fewest images of a sum. Those of whole parts: `images.load_local`.
    """

    rounds: Callable[[TrainingOptions, RunConfig], Collection[int]] = lambda options, config: ()
    refusal: str = ""
    begins: bool = False
    brings_weights: Callable[[TrainingOptions], bool] = lambda options: True
    may_lag: bool = False
    further: tuple[str, ...] = ()
    num_made: Callable[[int, int], int] = lambda number, last: number
    late: Literal["refused", "refused by class", "without sums by class"] = "refused"
    kept_as: str = ""
    minimums: tuple[Literal["min_images", "min_held_out", "min_class_count"], ...] = ("min_images", "min_held_out")

    def fewest(self, node: NodeConfig) -> int:
        """Return the fewest images that a sum may be over."""
        return max(int(getattr(node, one)) for one in self.minimums)


_MOMENTS = Question(
    rounds=lambda options, config: sorted(getattr(options, "exchange_rounds", ())),  # a classifier's
    refusal="by 'num-rounds' and 'prototype-rounds' prototypes are exchanged after these rounds: {listed}. Begin a run "
    "with other ones",
    kept_as="moments",
    minimums=("min_class_count",),
)
QUESTIONS: dict[str, Question] = {
    DESCRIBE: Question(brings_weights=lambda options: False),  # it is of no task
    TRAIN: Question(
        rounds=lambda options, config: range(1, options.num_rounds + 1),
        refusal="the run's option 'num-rounds' is {last}. Begin a run with more rounds",
        begins=True,
        further=("ema", "node-ema"),
        num_made=lambda number, last: number - 1,
        late="without sums by class",
        kept_as="own-moments",
        minimums=("min_images",),  # of a step; own moments have the minimum of MOMENTS
    ),
    EVALUATE: Question(
        rounds=lambda options, config: (0,),
        refusal="there is one final measurement alone, of round 0. Send 0",
        further=("ema", "node-ema", "initial"),
        num_made=lambda number, last: last,
        late="refused by class",
    ),
    MOMENTS: _MOMENTS,
    HEADS: replace(_MOMENTS, kept_as="", minimums=("min_held_out",)),
    MEMBERSHIP: Question(
        rounds=lambda options, config: (options.num_rounds,) if config.audit.membership else (),
        refusal="by 'audit.membership' and 'num-rounds' the run asks after round {last}. Change the options",
        may_lag=True,
        kept_as="membership",
    ),
    QUALITY: Question(
        rounds=lambda options, config: (options.num_rounds,),
        refusal="of generated images only those of the last one, {last}, are judged. Send this number",
        brings_weights=lambda options: isinstance(options, ClassificationOptions),
        kept_as="quality",
    ),
    DRAW: Question(  # the images that it makes are kept: see `replay`
        rounds=lambda options, config: range(1, options.num_rounds + 1),
        refusal="the run's option 'num-rounds' is {last}. Send the weights of the exported round",
        may_lag=True,
        late="refused by class",
    ),
}


def question_of(message_type: str) -> Question:
    """Return the row of a type of message; raises NotAllowedError if it has none."""
    if message_type not in QUESTIONS:
        raise NotAllowedError(
            f"this node was sent a message of the kind '{message_type[:40]}', and answers only: {', '.join(QUESTIONS)}"
        )
    return QUESTIONS[message_type]


def check_agreed(task: Task, config: RunConfig, instruction: Instruction, message_type: str) -> None:
    """Refuse a message that asks for more, or for something else, than the run's options lead to.

    Raises:
        NotAllowedError: the type, the round, a set of weights, a head or FedProx's term is none of the run's options.
    """
    question, number, options = question_of(message_type), instruction.round_number, task.options
    rounds = question.rounds(options, config)
    if number not in rounds:
        listed = "" if isinstance(rounds, range) else ", ".join(map(str, rounds))  # there may be millions
        why = question.refusal if rounds else "by its options the run asks nothing of this kind. Change the options"
        why = why.format(last=options.num_rounds, listed=listed)
        raise NotAllowedError(f"this node was asked for '{message_type}' of round {number}; {why}")
    strategy, mu = config.pass_named(instruction.task).options.strategy, config.strategy.proximal_mu
    if strategy in BUILT_IN["strategies"] and strategy != "FedProx":  # a plug-in may be made from FedProx
        mu = 0.0
    if instruction.proximal_mu not in (0.0, mu):
        raise NotAllowedError(
            f"this node was asked to train with a proximal term of {instruction.proximal_mu:g}, and {strategy} with "
            f"the run's 'strategy.proximal-mu' allows {mu:g}. Change the options, and not the message"
        )
    is_classifier = isinstance(options, ClassificationOptions)
    allowed = [one for one in question.further if one == "initial" or not is_classifier]
    further = {"ema": instruction.ema, "node-ema": instruction.node_ema, "initial": instruction.initial}
    unasked = [name for name, weights in further.items() if weights is not None and name not in allowed]
    if unasked:
        raise NotAllowedError(
            f"this node was asked to measure further weights ({', '.join(unasked)}) in a message of the kind "
            f"'{message_type}' about '{instruction.task}', which has none. Send the weights alone"
        )
    if isinstance(options, ClassificationOptions):
        _check_heads(instruction, (*BUILT_IN_HEADS, *options.further_heads))


def _check_heads(instruction: Instruction, known: tuple[str, ...]) -> None:
    names = {tuple(key.split("/")[:2]) for key in instruction.heads if key.endswith("/weight")}
    names |= {("consistent", key.split("/")[0]) for key in instruction.left_out or {} if key.endswith("/weight")}
    for source, head in ((name[0], name[-1]) for name in sorted(names)):
        if source not in _SOURCES or head not in known:
            raise NotAllowedError(
                f"this node was asked to measure the head '{f'{source}/{head}'[:60]}', and the run's options lead to "
                f"{', '.join(known)} alone. Name further heads in 'classification.heads'"
            )
