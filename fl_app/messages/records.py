"""Converts messages to typed values and back; `descriptions`, `quality` and `replay` have further keys of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from fl_app.errors import OptionError, RejectedReply
from fl_app.logs import clean_text
from fl_app.messages.arrays import Weights, array_record, pack, to_tensors, unpack, unpack_like
from fl_app.options.sections import LONGEST_NAME

WEIGHTS = "weights"
CONFIG = "config"
NUM_EXAMPLES = "num-examples"
DESCRIBE = "query.describe"
EVALUATE = "evaluate"
MOMENTS = "query.moments"
HEADS = "evaluate.heads"
MEMBERSHIP = "query.membership"
TRAIN = "train"

_EMA = "ema"
_NODE_EMA = "node-ema"
_INITIAL = "initial"
_SUMS = "statistics"  # on the wire; in this code they are called sums
_METRICS = "metrics"
NODE = "node"
_HEADS = "heads"
_LEFT_OUT = "left-out"
_INSTRUCTED = (WEIGHTS, _EMA, _NODE_EMA, _INITIAL, _HEADS, _LEFT_OUT)  # arrays of an instruction


@dataclass(frozen=True)
class Instruction:
    """The server's instruction to a node.

    Attributes:
        task: name of the task.
        round_number: from 1.
        run_name: the run's name, for the node's state and log.
        run_folder: the server's run folder; only a simulated node, on the same machine, may write there.
        weights: the global model.
        ema: the global model's EMA, which the node also measures.
        node_ema: the average of the nodes' own EMAs, which the node continues.
        initial: the weights before training, measured once at the end.
        proximal_mu: FedProx's weight; 0 turns it off.
        heads: classification heads that the node measures, as flat arrays.
        left_out: those built without the node's moments; None if they are not measured.
    """

    task: str
    round_number: int
    run_name: str
    run_folder: str
    weights: dict[str, Tensor]
    ema: dict[str, Tensor] | None = None
    node_ema: dict[str, Tensor] | None = None
    initial: dict[str, Tensor] | None = None
    proximal_mu: float = 0.0
    heads: Weights = field(default_factory=dict)
    left_out: Weights | None = None


@dataclass(frozen=True)
class Reply:
    """A node's answer: weights and sums, nothing about a single image.

    Attributes:
        site: the node's name.
        task: name of the task.
        round_number: the round of the instruction it answers.
        weight: number of training images, the weight in the average; may be 0.
        weights: after local training.
        node_ema: the node's own EMA; None if not asked for.
        sums: additive sums over held-out images.
        loss_sum: sum of training losses.
        num_losses: images seen in training, each epoch counted.
        seconds: wall time of local training.
        num_pieces: pieces per batch; more than 1 if GPU memory was short.
        metrics: training metrics of an ordinary Flower app's node; None if there are none.
    """

    site: str
    task: str
    round_number: int
    weight: float
    weights: Weights
    node_ema: Weights | None = None
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    loss_sum: float = 0.0
    num_losses: float = 0.0
    seconds: float = 0.0
    num_pieces: float = 1
    metrics: MetricRecord | None = None


def instruction_config(task: str, round_number: int, run_name: str, run_folder: str) -> ConfigRecord:
    """Return an instruction's config record."""
    return ConfigRecord({"task": task, "server-round": round_number, "run-name": run_name, "run-folder": run_folder})


def add_models(
    record: RecordDict, ema: Weights | None, node_ema: Weights | None, initial: Weights | None = None
) -> None:
    """Add further weights to an instruction: averages and the initial weights."""
    if ema is not None:
        record[_EMA] = array_record(ema)
    if node_ema is not None:
        record[_NODE_EMA] = array_record(node_ema)
    if initial is not None:
        record[_INITIAL] = array_record(initial)


def add_heads(record: RecordDict, heads: Weights) -> None:
    """Add classification heads to an instruction, as flat arrays."""
    record[_HEADS] = array_record(heads)


def left_out_record(heads: Weights) -> RecordDict:
    """Return what one node's instruction holds beside that of all: heads built without its moments."""
    return RecordDict({_LEFT_OUT: array_record(heads)})


def task_name(message: Message) -> str:
    """Return the task that a message names; empty if it names none."""
    config = message.content.config_records.get(CONFIG) if message.has_content() else None
    return str(config.get("task", "")) if config is not None else ""


@contextmanager
def reading(message: Message) -> Iterator[None]:
    """Raise OptionError if the server's message lacks a key, or a value is of another type."""
    try:
        yield
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise OptionError(f"The message '{message.metadata.message_type}' is damaged: {error}.") from None


def read_instruction(message: Message) -> Instruction:
    """Read the server's instruction, whose arrays are packed; raises OptionError if it is damaged."""
    with reading(message):
        config, arrays = message.content.config_records[CONFIG], message.content.array_records
        found = {name: unpack(arrays[name]) for name in _INSTRUCTED if name in arrays}
        models = {name: to_tensors(found[name]) for name in (_EMA, _NODE_EMA, _INITIAL) if name in found}
        return Instruction(
            task=text(config["task"]),
            round_number=whole(config["server-round"]),
            run_name=text(config["run-name"]),
            run_folder=text(config["run-folder"]),
            weights=to_tensors(found[WEIGHTS]),
            ema=models.get(_EMA),
            node_ema=models.get(_NODE_EMA),
            initial=models.get(_INITIAL),
            proximal_mu=number(config.get("proximal-mu", 0.0)),
            heads=found.get(_HEADS, {}),
            left_out=found.get(_LEFT_OUT),
        )


def write_reply(reply: Reply) -> RecordDict:
    """Write a node's answer with packed arrays."""
    content = RecordDict(
        {
            WEIGHTS: pack(reply.weights),
            _SUMS: pack(reply.sums),
            _METRICS: MetricRecord(
                {
                    NUM_EXAMPLES: reply.weight,
                    "loss-sum": reply.loss_sum,
                    "loss-count": reply.num_losses,
                    "seconds": reply.seconds,
                    "num-pieces": reply.num_pieces,
                }
            ),
            NODE: ConfigRecord({"site": reply.site, "task": reply.task, "server-round": reply.round_number}),
        }
    )
    if reply.node_ema is not None:
        content[_NODE_EMA] = pack(reply.node_ema)
    return content


def read_reply(
    message: Message, like: Weights | None = None, sums: Mapping[str, NDArray[np.float64]] | None = None
) -> Reply:
    """Read a node's answer.

    Args:
        message: the answer.
        like: the weights that were sent, which limit the size of the answer's weights; None: no limit.
        sums: with the expected names and shapes, which limit the size of the answer's; None: no limit.

    Raises:
        RejectedReply: a record or a key is missing, too large or of another kind.
    """
    content = message.content
    try:
        node, metrics = content.config_records[NODE], content.metric_records[_METRICS]
        has_ema = _NODE_EMA in content.array_records
        return Reply(
            site=clean_text(text(node["site"]), LONGEST_NAME),
            task=clean_text(text(node["task"]), LONGEST_NAME),
            round_number=whole(node["server-round"]),
            weight=number(metrics[NUM_EXAMPLES]),
            weights=unpack_like(WEIGHTS, content, like),
            node_ema=unpack_like(_NODE_EMA, content, like) if has_ema else None,
            sums=read_sums(content, sums),
            loss_sum=number(metrics["loss-sum"]),
            num_losses=number(metrics["loss-count"]),
            seconds=number(metrics["seconds"]),
            num_pieces=number(metrics["num-pieces"]),
        )
    except RejectedReply:
        raise
    except KeyError as error:
        raise RejectedReply(f"it holds no {error}") from None
    except Exception as error:  # a node may send anything: numpy alone raises half a dozen types of errors
        raise RejectedReply(f"it cannot be read ({type(error).__name__})") from None


def write_sums(site: str, sums: Mapping[str, NDArray[np.float64]]) -> RecordDict:
    """Write a node's sums with packed arrays."""
    return RecordDict({_SUMS: pack(sums), NODE: ConfigRecord({"site": site})})


def read_sums(
    content: RecordDict, like: Mapping[str, NDArray[np.float64]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Read additive sums.

    Args:
        content: of the answer.
        like: sums with the expected names and shapes, which limit the size; None: no limit.

    Raises:
        RejectedReply: the sums are missing, too large, or not float64.
    """
    try:
        arrays = unpack_like(_SUMS, content, like)
        if any(value.dtype != np.float64 for value in arrays.values()):
            raise RejectedReply("its sums must be float64")
        return cast(dict[str, NDArray[np.float64]], arrays)
    except RejectedReply:
        raise
    except KeyError as error:
        raise RejectedReply(f"it holds no {error}") from None
    except Exception as error:  # as in read_reply
        raise RejectedReply(f"its sums cannot be read ({type(error).__name__})") from None


def number(value: object) -> float:
    """Return a value that must be a number; raises TypeError."""
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(type(value).__name__)


def whole(value: object) -> int:
    """Return a value that must be a whole number; raises TypeError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(type(value).__name__)


def text(value: object) -> str:
    """Return a value that must be a text; raises TypeError."""
    if isinstance(value, str):
        return value
    raise TypeError(type(value).__name__)
