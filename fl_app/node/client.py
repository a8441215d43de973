"""Handlers of a node's messages: measure received weights, train, answer with weights and sums."""

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from flwr.app import Message, RecordDict
from torch import nn

from fl_app.classification.measuring import HeadSet
from fl_app.classification.task import ClassificationTask
from fl_app.data.loading import place
from fl_app.files import make_private
from fl_app.messages.arrays import to_numpy
from fl_app.messages.descriptions import SiteDescription, write_description
from fl_app.messages.quality import read_generated
from fl_app.messages.records import MOMENTS, Instruction, Reply, read_instruction, write_reply, write_sums
from fl_app.messages.replay import read_held
from fl_app.metrics.intervals import FEWEST_PATIENTS
from fl_app.metrics.membership import PARTS
from fl_app.node.answering import Node, answering
from fl_app.node.copies import check_number, search_copies
from fl_app.node.exchanged import Sums
from fl_app.node.history import History, check_weights
from fl_app.node.permissions import NotAllowedError
from fl_app.node.quality import answer_quality
from fl_app.node.questions import question_of
from fl_app.node.replay import balance, draw_missing
from fl_app.node.split import order_name
from fl_app.node.state import NodeState, state_base, state_folder
from fl_app.node.training import LocalResult, Progress, measure, train_local
from fl_app.seeding import generator_for
from fl_app.tasks import Audited, MeasuresOwn, Task, build_task, initial_weights

if TYPE_CHECKING:  # importing it costs a node of a classifier seconds
    from fl_app.diffusion.task import DiffusionTask

log = logging.getLogger(__name__)


@answering
def describe(message: Message, node: Node) -> RecordDict:
    """Return the images' classes, channels and size, and the number of images of each class."""
    data = node.data
    train, validation, test = (part.class_counts().tolist() for part in (data.train, data.validation, data.test))
    num_test_shares = node.options.num_partitions or 0 if data.test_from == "share" else 0
    return write_description(
        SiteDescription(
            data.site, node.info, train, validation, test, num_test_shares, data.num_unreadable, data.too_few
        )
    )


@answering
def train(message: Message, node: Node) -> RecordDict:
    """Measure the received weights on held-out images, train them, and answer: one message a round."""
    task, instruction, history = _accept(message, node)
    where = (
        f"Run {instruction.run_name}, {instruction.task}, round {instruction.round_number} of {task.options.num_rounds}"
    )
    log.info("%s: %d images, %d held out", where, len(node.data.train), len(node.data.validation))
    sums = _measure(task, node, instruction, history)
    model = task.build_model()
    model.load_state_dict(instruction.weights)
    if len(node.data.train) == 0:
        result = LocalResult(0.0, 0, 0, 1, 0.0, {}, instruction.node_ema)
    else:
        result = _train(task, node, instruction, model, history)
        loss = result.loss_sum / max(result.num_losses, 1)
        log.info("%s: trained for %.1f s, loss %.4f; sending the reply", where, result.seconds, loss)
    if isinstance(task, MeasuresOwn):
        images, number = history.shown(node.data.train), instruction.round_number
        fewest = question_of(MOMENTS).fewest(node.options)
        sums |= history.answer(partial(task.own_sums, model, images, node.device, number, fewest))
    return write_reply(
        Reply(
            site=node.data.site,
            task=instruction.task,
            round_number=instruction.round_number,
            weight=float(len(node.data.train)),
            weights=to_numpy(model.state_dict()),
            node_ema=to_numpy(result.ema) if result.ema is not None else None,
            sums=sums,
            loss_sum=result.loss_sum,
            num_losses=result.num_losses,
            seconds=result.seconds,
            num_pieces=result.num_pieces,
        )
    )


@answering
def evaluate(message: Message, node: Node) -> RecordDict:
    """Measure the received models on held-out images."""
    task, instruction, history = _accept(message, node)
    return write_sums(node.data.site, history.answer(partial(_measure, task, node, instruction, history)))


@answering
def moments(message: Message, node: Node) -> RecordDict:
    """Sum the embeddings of the training images under the received weights, by class."""
    task, instruction, history = _accept(message, node)
    assert isinstance(task, ClassificationTask)

    def measure_moments() -> Sums:
        images = place(node.data.train, node.device)
        return task.moments(instruction.weights, images, node.device, history.question.fewest(node.options))

    return write_sums(node.data.site, history.answer(measure_moments))


@answering
def heads(message: Message, node: Node) -> RecordDict:
    """Measure the received heads on held-out and test images."""
    task, instruction, history = _accept(message, node)
    assert isinstance(task, ClassificationTask)
    return write_sums(node.data.site, history.answer(partial(_measure_heads, task, node, instruction, history)))


@answering
def membership(message: Message, node: Node) -> RecordDict:
    """Count images by how well the weights that are to be exported know them, and copies among images drawn here."""
    task, instruction, history = _accept(message, node)
    if not isinstance(task, Audited):
        raise NotAllowedError(f"the task '{instruction.task}' has no membership audit. Audit a diffusion model")
    images = {part: getattr(node.data, part) for part in PARTS}
    most, fewest = node.config.audit.num_images, history.question.fewest(node.options)
    if most < fewest:
        raise NotAllowedError(
            f"this node was asked to count {most} of its images by score, and sends nothing of fewer than {fewest}. "
            "Raise 'audit.num-images'"
        )
    check_number(node)

    def count() -> Sums:
        scored = task.membership(instruction.weights, images, node.device, most)
        return scored | search_copies(cast("DiffusionTask", task), node, instruction)

    return write_sums(node.data.site, history.answer(count))


@answering
def quality(message: Message, node: Node) -> RecordDict:
    """Compare generated images with the node's own."""
    return write_sums(node.data.site, answer_quality(read_generated(message), node))


@answering
def draw(message: Message, node: Node) -> RecordDict:
    """Draw images of the classes that the node lacks, to train a classifier on."""
    instruction = read_instruction(message)
    held = read_held(message, len(node.info.class_names))
    return write_sums(node.data.site, draw_missing(instruction, held, node))


def _accept(message: Message, node: Node) -> tuple[Task, Instruction, History]:
    """Return the task of a message, the message, and what the node has seen of the run; raises as `check_weights`."""
    instruction = read_instruction(message)
    task = build_task(instruction.task, node.config, node.info)
    return task, instruction, check_weights(task, node, instruction, message.metadata.message_type)


def _measure(task: Task, node: Node, instruction: Instruction, history: History) -> Sums:
    models = {"raw": instruction.weights, "ema": instruction.ema, "node-ema": instruction.node_ema}
    models["initial"] = instruction.initial
    received = {name: weights for name, weights in models.items() if weights is not None}
    images = history.shown(node.data.validation)
    return measure(task, received, images, node.device, node.config.seed, node.data.site)


def _measure_heads(task: ClassificationTask, node: Node, instruction: Instruction, history: History) -> Sums:
    own = None
    if node.config.pass_named(instruction.task).keeps_weights:
        own, _ = _kept(node, instruction).load_parts(instruction.round_number + 1)
    images = {part: place(getattr(node.data, part), node.device) for part in ("validation", "test")}
    found = HeadSet.from_arrays(instruction.heads)
    fewest = FEWEST_PATIENTS if node.options.has_own_folder else 1
    sums = task.measure_heads(instruction.weights, own, found, images, node.device, fewest)
    if instruction.left_out is not None:
        held_out, fewest = images["validation"], history.question.fewest(node.options)
        sums |= task.measure_left_out(instruction.weights, found, instruction.left_out, held_out, node.device, fewest)
    return sums


def _train(task: Task, node: Node, instruction: Instruction, model: nn.Module, history: History) -> LocalResult:
    """Train the model in place and keep the optimiser's state for the next round."""
    device, site, round_number = node.device, node.data.site, instruction.round_number
    plan = node.config.pass_named(instruction.task)
    options = plan.options
    model.to(device)
    state = _kept(node, instruction)
    kept_weights, kept_optimizer = state.load_parts(round_number)
    start = instruction.weights
    if plan.is_alone:  # the received weights are the mean of all nodes
        start = kept_weights or initial_weights(task, node.config.seed)
        model.load_state_dict(start)
    objective, replay = balance(node, instruction, task, model)
    keeps = options.keep_optimizer_state
    seed = (node.config.seed, site, round_number)
    result = train_local(
        model,
        objective,
        place(node.data.train, device),
        options,
        Progress(round_number, options.num_rounds),
        device=device,
        order=lambda epoch: generator_for(
            node.config.seed, site, epoch, order_name(node.data.secret, plan.task, options)
        ),
        noise=generator_for(*seed, f"{plan.task}-noise", device),
        proximal_mu=instruction.proximal_mu,
        optimizer_state=kept_optimizer if keeps else None,
        ema=instruction.node_ema,
        ema_horizon=node.config.diffusion.node_ema_horizon,
        fewest=history.question.fewest(node.options),
        replay=replay,
    )
    history.note_update(start, model.state_dict())
    if keeps or plan.keeps_weights:
        weights = model.state_dict() if plan.keeps_weights else {}
        state.save_parts(round_number, weights, result.optimizer_state if keeps else {})
    return result


def _kept(node: Node, instruction: Instruction) -> NodeState:
    """Return the state that the node keeps between the rounds of this run."""
    with suppress(OSError):  # NodeState warns that nothing can be kept there
        make_private(state_base(node.options, instruction.run_folder))
    return NodeState(
        state_folder(node.options, instruction.run_folder, instruction.run_name, instruction.task),
        keep=2 * node.config.checkpoint_every + 1,  # so that a run can resume from the older of two checkpoints
    )
