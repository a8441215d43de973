"""What a message to a hospital may ask: only what the run's options lead to.

A study fixes the options, but messages bring rounds, weights, heads and FedProx's term. Whatever the options do not
lead to would be further questions about the same images, or another training than the agreed one.
"""

from fl_app.classification.heads import HEADS as BUILT_IN_HEADS
from fl_app.messages.quality import QUALITY
from fl_app.messages.records import EVALUATE, HEADS, MEMBERSHIP, MOMENTS, TRAIN, Instruction
from fl_app.messages.replay import DRAW
from fl_app.node.permissions import NotAllowedError
from fl_app.options.run import RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.plugins import BUILT_IN
from fl_app.tasks import Task

_SOURCES = ("global", "consistent", "own")


def check_agreed(task: Task, config: RunConfig, instruction: Instruction, message_type: str) -> None:
    """Refuse a message that asks for more, or for something else, than the run's options lead to.

    Raises:
        NotAllowedError: the round, a set of weights, a head or FedProx's term is not one of the run's options.
    """
    _check_round(task, instruction.round_number, message_type)
    if message_type == MEMBERSHIP:
        _check_audit(task, config, instruction.round_number)
    strategy, mu = config.pass_named(instruction.task).options.strategy, config.strategy.proximal_mu
    if strategy in BUILT_IN["strategies"] and strategy != "FedProx":  # a plug-in may be made from FedProx
        mu = 0.0
    if instruction.proximal_mu not in (0.0, mu):
        raise NotAllowedError(
            f"this node was asked to train with a proximal term of {instruction.proximal_mu:g}, and {strategy} with "
            f"the run's 'strategy.proximal-mu' allows {mu:g}. Change the options, and not the message"
        )
    is_classifier = isinstance(task.options, ClassificationOptions)
    further = (
        {"ema": instruction.ema, "node-ema": instruction.node_ema}
        if is_classifier or message_type == MEMBERSHIP
        else {}
    )
    if message_type != EVALUATE:
        further["initial"] = instruction.initial
    unasked = [name for name, weights in further.items() if weights is not None]
    if unasked:
        raise NotAllowedError(
            f"this node was asked to measure further weights ({', '.join(unasked)}) in a message of the kind "
            f"'{message_type}' about '{instruction.task}', which has none. Send the weights alone"
        )
    if isinstance(task.options, ClassificationOptions):
        _check_heads(instruction, (*BUILT_IN_HEADS, *task.options.further_heads))


def _check_round(task: Task, number: int, message_type: str) -> None:
    options = task.options
    if message_type == TRAIN and not 1 <= number <= options.num_rounds:
        raise NotAllowedError(
            f"this node was asked to train in round {number}, and the run's option 'num-rounds' is "
            f"{options.num_rounds}. Begin a run with more rounds"
        )
    if message_type == EVALUATE and number != 0:
        raise NotAllowedError(
            f"this node was asked for a final measurement of round {number}, and there is one alone, of round 0. Send 0"
        )
    if message_type == DRAW and not 1 <= number <= options.num_rounds:
        raise NotAllowedError(
            f"this node was asked to draw images with the weights of round {number}, and the run's option "
            f"'num-rounds' is {options.num_rounds}. Send those of the exported round"
        )
    if message_type == QUALITY and number != options.num_rounds:
        raise NotAllowedError(
            f"this node was asked to judge generated images of round {number}, and only those of the last one, "
            f"{options.num_rounds}, are judged. Send this number"
        )
    if message_type not in (MOMENTS, HEADS) or not isinstance(options, ClassificationOptions):
        return
    if number not in options.exchange_rounds:
        agreed = ", ".join(map(str, sorted(options.exchange_rounds)))
        raise NotAllowedError(
            f"this node was asked for '{message_type}' after round {number}; by 'num-rounds' and 'prototype-rounds' "
            f"prototypes are exchanged after these rounds: {agreed}. Begin a run with other ones"
        )


def _check_audit(task: Task, config: RunConfig, number: int) -> None:
    if not config.audit.membership or number != task.options.num_rounds:
        agreed = f"after round {task.options.num_rounds}" if config.audit.membership else "nothing of this kind"
        raise NotAllowedError(
            f"this node was asked for '{MEMBERSHIP}' after round {number}; by 'audit.membership' and 'num-rounds' the "
            f"run asks {agreed}. Change the options, and not the message"
        )


def _check_heads(instruction: Instruction, known: tuple[str, ...]) -> None:
    names = {tuple(key.split("/")[:2]) for key in instruction.heads if key.endswith("/weight")}
    names |= {("consistent", key.split("/")[0]) for key in instruction.left_out or {} if key.endswith("/weight")}
    for source, head in ((name[0], name[-1]) for name in sorted(names)):
        if source not in _SOURCES or head not in known:
            raise NotAllowedError(
                f"this node was asked to measure the head '{f'{source}/{head}'[:60]}', and the run's options lead to "
                f"{', '.join(known)} alone. Name further heads in 'classification.heads'"
            )
