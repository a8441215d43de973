"""Weights with a history: a hospital's node takes only weights that its own study, or its own past, leads to.

Weights of a coordinator's choice turn sums into single images. So the weights of round 1 must be those that the node
derives itself, and later ones must lie near those that it accepted before. This is a hurdle and no proof: weights that
differ little from honest ones are accepted (`docs/threat-model.md`).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_app.data.images import ImageSet
from fl_app.errors import RunFolderError
from fl_app.files import make_private, replacing, write_text
from fl_app.messages.records import Instruction
from fl_app.node.answering import Node
from fl_app.node.distances import distance, length, relative_difference
from fl_app.node.exchanged import Sums, answer_once
from fl_app.node.permissions import NotAllowedError
from fl_app.node.questions import Question, check_agreed, question_of
from fl_app.node.state import RunFile, digest, forget_run, state_base, state_folder
from fl_app.tasks import Task, initial_weights

log = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]

# Honest steps were at most 2.3 times as long as the longest one that a node had seen, and 0.19 of the weights' length;
# a whole run moved the weights by at most 4.2 times their length (`python -m benchmarks.jumps`). In tiny runs the first
# step of FedAdagrad is 3.7 times as long as what was seen, and a node with few images has seen next to none. Weights
# made to show images, and not hidden in honest ones, are 30 times their length away.
ROUNDING = 1e-6
MOST_STEPS = 4.0  # times the longest step that the node has seen
ALWAYS_ALLOWED = 0.5  # of the weights' length, for each round
MOST_LENGTHS = 10.0  # times the weights' length, however many rounds the node has missed

_DIGEST, _ROUNDS_DONE, _IS_LATE, _OPTIONS = "sha256", "rounds-done", "is-late", "options"
_WITHOUT_CLASSES = ("diffusion",)  # tasks whose held-out sums are not by class


@dataclass(frozen=True)
class Seen:
    """The last weights of a task that a node accepted.

    Attributes:
        weights: by name.
        rounds_done: how many rounds had made them.
        is_late: whether the node came after round 1.
        options: digest of the seed and the task's options.
    """

    weights: dict[str, Tensor]
    rounds_done: int
    is_late: bool
    options: str


class History:
    """What a hospital has seen of the weights of one task in one run; a simulated node has no history.

    Attributes:
        question: of the message that the node answers.
        round_number: of the message.
        folder: of the task's state at the node; None: nothing is checked and nothing is written.
        is_late: the node has not seen round 1, and the run's options do not let it send sums all the same.
    """

    def __init__(self, question: Question, round_number: int, folder: Path | None) -> None:
        self.question = question
        self.round_number = round_number
        self.folder = folder
        self.is_late = False

    def shown(self, images: ImageSet) -> ImageSet:
        """Return the images of which sums by class may be sent: none if the node is late."""
        return images.select(torch.empty(0, dtype=torch.int64)) if self.is_late else images

    def note_update(self, before: Tensors, after: Tensors) -> None:
        """Remember how far the node's own training moved the weights in a round."""
        if self.folder is not None:
            self.note_step(distance(after, before))

    def note_step(self, length: float) -> None:
        """Remember a step, if it is the longest so far."""
        assert self.folder is not None
        if length > self.longest() and RunFile.HISTORY.path(self.folder).exists():
            with _warning(self.folder):
                write_text(RunFile.STEPS.path(self.folder), json.dumps({"longest-step": length}))
                RunFile.STEPS.path(self.folder).chmod(0o600)

    def longest(self) -> float:
        """Return the longest step that the node has seen, a round's; 0 if it has seen none."""
        assert self.folder is not None
        try:
            found = float(json.loads(RunFile.STEPS.path(self.folder).read_text())["longest-step"])
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s is damaged (%s): the node forgets how long earlier steps were", RunFile.STEPS.value, error)
            return 0.0
        return found if np.isfinite(found) else 0.0

    def answer(self, measure: Callable[[], Sums], by: str = "") -> Sums:
        """Return the sums of an answer; if the question has them measured once in a round, the same ever after.

        Args:
            measure: measures them.
            by: what generated images are judged by: each has an answer of its own.
        """
        kept_as = self.question.kept_as
        if not kept_as or self.folder is None or self.is_late:
            return measure()
        return answer_once(self.folder, f"{kept_as}-{by}" if by else kept_as, self.round_number, measure)


def check_weights(task: Task, node: Node, instruction: Instruction, message_type: str) -> History:
    """Accept received weights, or refuse them; a simulated node accepts all.

    Args:
        task: of the instruction.
        node: with its options.
        instruction: with all the weights that were received.
        message_type: of the instruction.

    Returns:
        What the node knows of the task's weights, the received ones included.

    Raises:
        NotAllowedError: the weights are not those of the study's seed, or too far from earlier ones; the node has seen
            too little to send sums by class; the round is none in which these sums are agreed.
    """
    question, number = question_of(message_type), instruction.round_number
    brings_weights = question.brings_weights(task.options)
    if instruction.weights and not brings_weights:
        raise NotAllowedError(
            f"this node was sent weights in a message of the kind '{message_type}' about '{instruction.task}', which "
            "needs none. Send none"
        )
    if node.options.is_simulated or not node.options.check_weights:
        return History(question, number, None)
    check_agreed(task, node.config, instruction, message_type)
    folder = state_folder(node.options, "", instruction.run_name, instruction.task)
    seed, history = node.config.seed, History(question, number, folder)
    if instruction.initial is not None:
        _check_initial({"initial": instruction.initial}, initial_weights(task, seed), seed)
    received = {"weights": instruction.weights, "ema": instruction.ema, "node-ema": instruction.node_ema}
    models = {name: weights for name, weights in received.items() if weights is not None}
    options = hashlib.sha256(f"{seed} {task.options.model_dump_json()}".encode()).hexdigest()
    begins, seen = question.begins and number == 1, _read_seen(folder)
    if begins:
        _check_initial(models, initial_weights(task, seed), seed)
    if begins or (seen is not None and seen.options != options):  # what is known is of an earlier run of this name
        with _warning(folder):
            forget_run(folder)
        seen = None
    rounds_done = question.num_made(number, task.options.num_rounds)
    if begins:
        _write(node, folder, Seen(instruction.weights, rounds_done, is_late=False, options=options))
        return history
    _check_late(history, seen, node, instruction)
    if not brings_weights:
        make_private(state_base(node.options, ""))
        make_private(folder)
        return history
    if seen is None:
        initial = initial_weights(task, seed)
        a_round = ALWAYS_ALLOWED * length(initial)
        _check_near(models, initial, "those that the seed gives", most=max(1, rounds_done) * a_round)
        _write(node, folder, Seen(instruction.weights, rounds_done, is_late=True, options=options))
        return history
    a_round = max(MOST_STEPS * history.longest(), ALWAYS_ALLOWED * length(seen.weights))
    if question.may_lag:  # what is exported may be an average, which lies behind the weights
        _check_near(models, seen.weights, "the last ones", most=(rounds_done + 1) * a_round)
        return history
    num_rounds = max(1, abs(rounds_done - seen.rounds_done))
    since = f"those of {num_rounds} rounds before" if num_rounds > 1 else "the last ones"
    step = _check_near({"weights": models.pop("weights")}, seen.weights, since, most=num_rounds * a_round)
    _check_near(models, instruction.weights, "the weights", most=(rounds_done + 1) * a_round)
    if step > 0:
        history.note_step(step / num_rounds)
        _write(node, folder, Seen(instruction.weights, rounds_done, seen.is_late, options))
    return history


def _check_initial(models: Mapping[str, Tensors], own: Tensors, seed: int) -> None:
    """Raise NotAllowedError unless weights are those of the seed, to 1e-6 of 1 or of the weight, if that is larger."""
    for name, weights in models.items():
        _check_same_network(weights, own)
        unequal = [key for key, value in own.items() if not torch.equal(weights[key], value)]
        differences = [relative_difference(weights[key], own[key]) for key in unequal]
        if not all(one <= ROUNDING for one in differences):  # also if one is not a number
            found = max(differences)
            what = "initial weights" if name == "initial" else f"{name} of round 1"
            raise NotAllowedError(
                f"the {what} differ by up to {found:.2g} from those of seed {seed}, at most {ROUNDING:g} is allowed. "
                "Start from the study's seed, with this node's versions of fl-app and torch"
            )


def _check_near(models: Mapping[str, Tensors], known: Tensors, named: str, most: float) -> float:
    """Return the largest distance from known weights; raise NotAllowedError if it is too large.

    Args:
        models: received ones, by name.
        known: where they should be near.
        named: the known weights, for the error.
        most: the largest distance; `MOST_LENGTHS` may allow less.
    """
    largest, limit = 0.0, min(most, MOST_LENGTHS * length(known)) if models else most
    for name, weights in models.items():
        _check_same_network(weights, known)
        found = distance(weights, known)
        if not found <= limit:
            raise NotAllowedError(
                f"the {name} are {found:.3g} away from {named}, at most {limit:.3g} is allowed. Go on from weights "
                "that this node has seen, or begin a new run"
            )
        largest = max(largest, found)
    return largest


def _check_same_network(found: Tensors, known: Tensors) -> None:
    if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in known.items()}:
        raise NotAllowedError(
            "the received weights are those of another network than this run's options, or earlier rounds, have. Begin "
            "a new run under another name"
        )


def _check_late(history: History, seen: Seen | None, node: Node, instruction: Instruction) -> None:
    """Note whether the node is late; raise NotAllowedError if the question is none that a late node answers."""
    late = history.question.late
    is_coarse = node.config.pass_named(instruction.task).task in _WITHOUT_CLASSES and late != "refused"
    has_seen = seen is not None and not seen.is_late
    history.is_late = not (has_seen or is_coarse or node.config.allows_late_joining)
    if history.is_late and late != "without sums by class":
        raise NotAllowedError(
            "this node has not seen round 1 of this run, or has lost its state: it trains, but sends no sums by class, "
            "and judges no images, unless the run's option 'late-joining' is true"
        )


def _read_seen(folder: Path) -> Seen | None:
    """Read the last weights that the node accepted; None if there are none, or the file is damaged."""
    path = RunFile.HISTORY.path(folder)
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
            about = file.metadata() or {}
        if about.get(_DIGEST) != digest(weights):
            raise SafetensorError("its SHA-256 differs")
        return Seen(weights, int(about[_ROUNDS_DONE]), about[_IS_LATE] == "true", about[_OPTIONS])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        log.warning("The history of the weights, %s, is damaged (%s): the node has none now", path, error)
        return None


def _write(node: Node, folder: Path, seen: Seen) -> None:
    about = {
        _DIGEST: digest(seen.weights),
        _ROUNDS_DONE: str(seen.rounds_done),
        _IS_LATE: "true" if seen.is_late else "false",
        _OPTIONS: seen.options,
    }
    with _warning(folder):
        make_private(state_base(node.options, ""))
        make_private(folder)
        with replacing(RunFile.HISTORY.path(folder), mode=0o600) as temporary:
            save_file({key: value.contiguous() for key, value in seen.weights.items()}, temporary, about)


@contextmanager
def _warning(folder: Path) -> Iterator[None]:
    """Go on if the history cannot be written, as on a full disk: the node then knows less of later weights."""
    try:
        yield
    except (OSError, RunFolderError) as error:
        log.warning("The history of the weights cannot be kept in %s: %s", folder, error)
