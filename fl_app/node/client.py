"""Handlers of a node's messages: measure received weights, train, answer with weights and sums."""

import functools
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from flwr.app import Context, Error, Message, RecordDict
from numpy.typing import NDArray
from torch import nn

from fl_app.classification.measuring import HeadSet
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import DatasetInfo
from fl_app.data.loading import place
from fl_app.errors import FlAppError, OptionError, is_fault
from fl_app.files import make_private
from fl_app.logs import clean_text, hide_log, show_log
from fl_app.messages.arrays import to_numpy
from fl_app.messages.contents import contents_of, what_is_asked
from fl_app.messages.descriptions import SiteDescription, write_description
from fl_app.messages.records import (
    DESCRIBE,
    Instruction,
    Reply,
    read_instruction,
    task_name,
    write_reply,
    write_sums,
)
from fl_app.metrics.intervals import FEWEST_PATIENTS
from fl_app.node.counting import count_message
from fl_app.node.images import LocalData, as_simulated, load_local, load_pooled
from fl_app.node.permissions import check_study, check_task, limited_plugins
from fl_app.node.sent import LOG, Sent, append, log_folder
from fl_app.node.state import NodeState, state_base, state_folder
from fl_app.node.training import LocalResult, Progress, measure, train_local
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import LONGEST_NAME, is_site_name
from fl_app.seeding import generator_for
from fl_app.tasks import MeasuresOwn, Task, build_task, initial_weights

log = logging.getLogger(__name__)

_APP_ERROR = 2  # Flower's own code for an exception in a ClientApp


@dataclass(frozen=True)
class Node:
    """Options, images and device that a node uses to handle a message."""

    config: RunConfig
    options: NodeConfig
    data: LocalData
    device: torch.device

    @classmethod
    def from_context(cls, context: Context, task: str | None, message_type: str) -> "Node":
        """Check all options, count the message, and read the node's images for a task; None: its own images."""
        config = RunConfig.received(context.run_config)
        options = as_simulated(config, NodeConfig.from_flat(context.node_config))
        if task is not None:
            check_task(options, config.pass_named(task).task)
        count_message(options, message_type)
        _use_given_cpus()
        is_pooled = task is not None and config.pass_named(task).is_pooled
        return cls(config, options, (load_pooled if is_pooled else load_local)(config, options), _device(options))

    @property
    def info(self) -> DatasetInfo:
        """Classes, channels and size of the node's images."""
        images = self.data.train.images
        return DatasetInfo(self.data.train.class_names, images.shape[1], images.shape[2])


def _answering(handle: Callable[[Message, Node], RecordDict]) -> Callable[[Message, Context], Message]:
    """Turn errors into error replies that give the server a reason without facts about the hospital.

    Flower would send the whole text of an exception, which may hold names of files or values.
    """

    @functools.wraps(handle)
    def answer(message: Message, context: Context) -> Message:
        return _noted(attempt(message, context), message, context)

    def attempt(message: Message, context: Context) -> Message:
        try:
            asked = None if message.metadata.message_type == DESCRIBE else task_name(message)
            options, config = NodeConfig.from_flat(context.node_config), RunConfig.received(context.run_config)
            check_study(options, config)
            with limited_plugins(options, config):
                node = Node.from_context(context, asked, message.metadata.message_type)
                log.info("The server asks: %s", message.metadata.message_type)
                return Message(handle(message, node), reply_to=message)
        except FlAppError as error:
            log.error("%s", error)
            site = str(context.node_config.get("site", ""))
            is_known = message.metadata.message_type != DESCRIBE or not is_site_name(site)
            return Message(Error(_APP_ERROR, error.public if is_known else f"{site}: {error.public}"), reply_to=message)
        except BaseException as error:  # the text of an unknown error stays at the node
            if not is_fault(error):
                raise
            log.exception("This node failed")
            reason = f"{type(error).__name__} at the node; its log says more"
            return Message(Error(_APP_ERROR, reason), reply_to=message)

    return answer


def _noted(reply: Message, message: Message, context: Context) -> Message:
    """Note a hospital's reply in its log of what left; if that fails, return an error, so that nothing leaves unnoted.

    Simulated nodes have no such log.
    """
    try:
        folder = log_folder(context.node_config)
        if folder is None:
            return reply
        asked, found = what_is_asked(message), contents_of(reply)
        sent = Sent(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            site=clean_text(str(context.node_config.get("site", "")), LONGEST_NAME),
            run=clean_text(asked.run or str(context.run_config.get("run-name", "")), LONGEST_NAME),
            flower_run=str(context.run_id),
            task=clean_text(asked.task, LONGEST_NAME),
            message=clean_text(message.metadata.message_type, LONGEST_NAME),
            round=asked.round_number,
            is_error=reply.has_error(),
            records=found.records,
            bytes=found.num_bytes,
            sha256=found.sha256,
        )
        number, line_hash = append(folder, sent)
    except Exception as error:
        log.error("The log of what left, %s in 'state-dir', cannot be written, so nothing leaves: %s", LOG, error)
        reason = "this node cannot write its log of what left, so nothing leaves it: its 'state-dir' must be writable"
        return Message(Error(_APP_ERROR, reason), reply_to=message)
    log.info("The answer is line %d of %s, with the SHA-256 %s", number, LOG, line_hash)
    return reply


def print_log(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Flower mod that prints the node's log at a hospital; in a simulation the server's log has it."""
    if context.node_config.get("data-path"):
        show_log()
    else:
        hide_log()
    return call_next(message, context)


@_answering
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


@_answering
def train(message: Message, node: Node) -> RecordDict:
    """Measure the received weights on held-out images, train them, and answer: one message a round."""
    instruction = read_instruction(message)
    task = build_task(instruction.task, node.config, node.info)
    where = (
        f"Run {instruction.run_name}, {instruction.task}, round {instruction.round_number} of {task.options.num_rounds}"
    )
    log.info("%s: %d images, %d held out", where, len(node.data.train), len(node.data.validation))
    sums = _measure(task, node, instruction)
    model = task.build_model()
    model.load_state_dict(instruction.weights)
    if len(node.data.train) == 0:
        result = LocalResult(0.0, 0, 0, 1, 0.0, {}, instruction.node_ema)
    else:
        result = _train(task, node, instruction, model)
        loss = result.loss_sum / max(result.num_losses, 1)
        log.info("%s: trained for %.1f s, loss %.4f; sending the reply", where, result.seconds, loss)
    if isinstance(task, MeasuresOwn):
        sums |= task.own_sums(
            model, node.data.train, node.device, instruction.round_number, node.options.min_class_count
        )
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


@_answering
def evaluate(message: Message, node: Node) -> RecordDict:
    """Measure the received models on held-out images."""
    instruction = read_instruction(message)
    task = build_task(instruction.task, node.config, node.info)
    return write_sums(node.data.site, _measure(task, node, instruction))


@_answering
def moments(message: Message, node: Node) -> RecordDict:
    """Sum the embeddings of the training images under the received weights, by class."""
    instruction, task = _read_classification(message, node)
    images = place(node.data.train, node.device)
    found = task.moments(instruction.weights, images, node.device, node.options.min_class_count)
    return write_sums(node.data.site, found)


@_answering
def heads(message: Message, node: Node) -> RecordDict:
    """Measure the received heads on held-out and test images."""
    instruction, task = _read_classification(message, node)
    own = None
    if node.config.pass_named(instruction.task).keeps_weights:
        own, _ = _kept(node, instruction).load_parts(instruction.round_number + 1)
    images = {part: place(getattr(node.data, part), node.device) for part in ("validation", "test")}
    found = HeadSet.from_arrays(instruction.heads)
    fewest = FEWEST_PATIENTS if node.options.data_path else 1  # a simulated node's images are public
    sums = task.measure_heads(instruction.weights, own, found, images, node.device, fewest)
    return write_sums(node.data.site, sums)


def _read_classification(message: Message, node: Node) -> tuple[Instruction, ClassificationTask]:
    instruction = read_instruction(message)
    task = build_task(instruction.task, node.config, node.info)
    assert isinstance(task, ClassificationTask)
    return instruction, task


def _measure(task: Task, node: Node, instruction: Instruction) -> dict[str, NDArray[np.float64]]:
    models = {"raw": instruction.weights, "ema": instruction.ema, "node-ema": instruction.node_ema}
    models["initial"] = instruction.initial
    received = {name: weights for name, weights in models.items() if weights is not None}
    return measure(task, received, node.data.validation, node.device, node.config.seed, node.data.site)


def _train(task: Task, node: Node, instruction: Instruction, model: nn.Module) -> LocalResult:
    """Train the model in place and keep the optimiser's state for the next round."""
    device, site, round_number = node.device, node.data.site, instruction.round_number
    plan = node.config.pass_named(instruction.task)
    options = plan.options
    model.to(device)
    state = _kept(node, instruction)
    kept_weights, kept_optimizer = state.load_parts(round_number)
    if plan.is_alone:  # the received weights are the mean of all nodes
        model.load_state_dict(kept_weights or initial_weights(task, node.config.seed))
    keeps = options.keep_optimizer_state
    seed = (node.config.seed, site, round_number)
    result = train_local(
        model,
        task,
        place(node.data.train, device),
        options,
        Progress(round_number, options.num_rounds),
        device=device,
        order=lambda epoch: generator_for(node.config.seed, site, epoch, f"{plan.task}-order"),
        noise=generator_for(*seed, f"{plan.task}-noise", device),
        proximal_mu=instruction.proximal_mu,
        optimizer_state=kept_optimizer if keeps else None,
        ema=instruction.node_ema,
        ema_horizon=node.config.diffusion.node_ema_horizon,
    )
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


def _device(options: NodeConfig) -> torch.device:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise OptionError("Node option 'device' is 'cuda', but torch finds no GPU. Fix the driver or set 'cpu'.")
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


def _use_given_cpus() -> None:
    """In a simulation, use as many threads as CPUs that Ray assigned: more are many times slower on a busy machine."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        given = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(given)))
