"""What a message to a hospital may ask: only what the run's options lead to.

A study fixes the options, but messages bring rounds, weights, heads and FedProx's term. Whatever the options do not
lead to would be further questions about the same images, or another training than the agreed one.
"""

from fl_app.classification.heads import HEADS as BUILT_IN_HEADS
from fl_app.messages.records import Instruction
from fl_app.node.permissions import NotAllowedError
from fl_app.node.questions import NOTHING, Question, question_of
from fl_app.options.run import RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.plugins import BUILT_IN
from fl_app.tasks import Task

_SOURCES = ("global", "consistent", "own")


def check_agreed(task: Task, config: RunConfig, instruction: Instruction, message_type: str) -> None:
    """Refuse a message that asks for more, or for something else, than the run's options lead to.

    Raises:
        NotAllowedError: the type of the message, the round, a set of weights, a head or FedProx's term is not one of
            the run's options.
    """
    question = question_of(message_type)
    _check_round(question, task, config, instruction.round_number, message_type)
    strategy, mu = config.pass_named(instruction.task).options.strategy, config.strategy.proximal_mu
    if strategy in BUILT_IN["strategies"] and strategy != "FedProx":  # a plug-in may be made from FedProx
        mu = 0.0
    if instruction.proximal_mu not in (0.0, mu):
        raise NotAllowedError(
            f"this node was asked to train with a proximal term of {instruction.proximal_mu:g}, and {strategy} with "
            f"the run's 'strategy.proximal-mu' allows {mu:g}. Change the options, and not the message"
        )
    further = {"ema": instruction.ema, "node-ema": instruction.node_ema, "initial": instruction.initial}
    allowed = question.further_of(task)
    unasked = [name for name, weights in further.items() if weights is not None and name not in allowed]
    if unasked:
        raise NotAllowedError(
            f"this node was asked to measure further weights ({', '.join(unasked)}) in a message of the kind "
            f"'{message_type}' about '{instruction.task}', which has none. Send the weights alone"
        )
    if isinstance(task.options, ClassificationOptions):
        _check_heads(instruction, (*BUILT_IN_HEADS, *task.options.further_heads))


def _check_round(question: Question, task: Task, config: RunConfig, number: int, message_type: str) -> None:
    rounds, last = question.rounds(task, config), task.options.num_rounds
    if number in rounds:
        return
    listed = "" if isinstance(rounds, range) else ", ".join(map(str, rounds))  # a run may have millions of rounds
    asked = question.refusal if rounds else NOTHING
    asked = asked.format(kind=message_type, number=number, last=last, listed=listed)
    raise NotAllowedError(f"this node was asked {asked}")


def _check_heads(instruction: Instruction, known: tuple[str, ...]) -> None:
    names = {tuple(key.split("/")[:2]) for key in instruction.heads if key.endswith("/weight")}
    names |= {("consistent", key.split("/")[0]) for key in instruction.left_out or {} if key.endswith("/weight")}
    for source, head in ((name[0], name[-1]) for name in sorted(names)):
        if source not in _SOURCES or head not in known:
            raise NotAllowedError(
                f"this node was asked to measure the head '{f'{source}/{head}'[:60]}', and the run's options lead to "
                f"{', '.join(known)} alone. Name further heads in 'classification.heads'"
            )
