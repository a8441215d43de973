"""How a node answers: its permissions, its images, an error as an answer, and the log of what left."""

import functools
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from flwr.app import Context, Error, Message, RecordDict

from fl_app.data.images import DatasetInfo
from fl_app.errors import FlAppError, OptionError, is_fault
from fl_app.logs import clean_text, hide_log, show_log
from fl_app.messages.contents import contents_of, what_is_asked
from fl_app.messages.records import DESCRIBE, task_name
from fl_app.node.counting import count_message
from fl_app.node.images import LocalData, as_simulated, load_local, load_pooled
from fl_app.node.permissions import check_study, check_task, limited_plugins
from fl_app.node.questions import question_of
from fl_app.node.sent import LOG, Sent, append, log_folder
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import LONGEST_NAME, is_site_name

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
    def loaded(cls, config: RunConfig, given: NodeConfig, task: str | None, message_type: str) -> "Node":
        """Check the task, count the message, and read the node's images for the task; None: its own images."""
        options = as_simulated(config, given)
        if task is not None:
            check_task(options, config.pass_named(task).task)
        if message_type != DESCRIBE:
            count_message(options, message_type)
        _use_given_cpus()
        is_pooled = task is not None and config.pass_named(task).is_pooled
        data = (load_pooled if is_pooled else load_local)(config, options)
        if message_type == DESCRIBE:  # a node whose folder is away is asked again and again: that is not counted
            count_message(options, message_type)
        return cls(config, options, data, _device(options))

    @property
    def info(self) -> DatasetInfo:
        """Classes, channels and size of the node's images."""
        images = self.data.train.images
        return DatasetInfo(self.data.train.class_names, images.shape[1], images.shape[2])


def answering(handle: Callable[[Message, Node], RecordDict]) -> Callable[[Message, Context], Message]:
    """Turn errors into error replies that give the server a reason without facts about the hospital.

    Flower would send the whole text of an exception, which may hold names of files or values.
    """

    @functools.wraps(handle)
    def answer(message: Message, context: Context) -> Message:
        return _noted(attempt(message, context), message, context)

    def attempt(message: Message, context: Context) -> Message:
        kind = message.metadata.message_type
        try:
            question_of(kind)
            asked = None if kind == DESCRIBE else task_name(message)
            options, config = NodeConfig.from_flat(context.node_config), RunConfig.received(context.run_config)
            check_study(options, config)
            with limited_plugins(options, config):
                node = Node.loaded(config, options, asked, kind)
                log.info("The server asks: %s", kind)
                return Message(handle(message, node), reply_to=message)
        except FlAppError as error:
            log.error("%s", error)
            site = str(context.node_config.get("site", ""))
            is_known = kind != DESCRIBE or not is_site_name(site)
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
