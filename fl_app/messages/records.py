"""Messages to typed values and back: the only place that spells the keys of records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from fl_app.messages.arrays import Weights, array_record, pack, to_tensors, unpack, unpack_like
from fl_app.messages.incoming import RejectedReply, clean_text, number, text, whole
from fl_app.options.sections import LONGEST_NAME

WEIGHTS = "weights"
CONFIG = "config"
NUM_EXAMPLES = "num-examples"
DESCRIBE = "query.describe"
EVALUATE = "evaluate"
MOMENTS = "query.moments"
HEADS = "evaluate.heads"
TRAIN = "train"

_EMA = "ema"
_NODE_EMA = "node-ema"
_INITIAL = "initial"
_STATISTICS = "statistics"
_METRICS = "metrics"
NODE = "node"
_HEADS = "heads"


@dataclass(frozen=True)
class Instruction:
    """What the server asks of a node.

    Attributes:
        task: name of the task.
        round_number: from 1.
        run_name: names the run at the node.
        run_folder: the server's run folder; only a simulated node, on the same machine, may write there.
        weights: the global model.
        ema: its EMA, to be measured beside it.
        node_ema: the average of the nodes' own EMAs, to be continued.
        initial: the weights before training, to be measured once at the end.
        proximal_mu: FedProx's weight, 0 without.
        heads: classification heads to be measured, as flat arrays.
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


@dataclass(frozen=True)
class Reply:
    """What a node answers: weights and sums, and nothing of a single image.

    Attributes:
        site: the node's name.
        task: name of the task.
        round_number: the round of the instruction it answers.
        weight: training images, the weight in the average; 0 of a node without images.
        weights: after local training.
        node_ema: the node's own EMA, where asked for.
        statistics: additive sums over held-out images.
        loss_sum: sum of training losses.
        num_losses: images seen in training, each epoch counted.
        seconds: wall time of local training.
        num_pieces: into how many pieces its batches were cut for want of GPU memory.
        metrics: what an ordinary Flower app's node reports of its training; None: nothing.
    """

    site: str
    task: str
    round_number: int
    weight: float
    weights: Weights
    node_ema: Weights | None = None
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    loss_sum: float = 0.0
    num_losses: float = 0.0
    seconds: float = 0.0
    num_pieces: float = 1
    metrics: MetricRecord | None = None


def instruction_config(task: str, round_number: int, run_name: str, run_folder: str) -> ConfigRecord:
    """Write the part of an instruction that is not weights."""
    return ConfigRecord({"task": task, "server-round": round_number, "run-name": run_name, "run-folder": run_folder})


def add_models(
    record: RecordDict, ema: Weights | None, node_ema: Weights | None, initial: Weights | None = None
) -> None:
    """Put further weights into an instruction, beside the weights: averages, and the untrained ones."""
    if ema is not None:
        record[_EMA] = array_record(ema)
    if node_ema is not None:
        record[_NODE_EMA] = array_record(node_ema)
    if initial is not None:
        record[_INITIAL] = array_record(initial)


def add_heads(record: RecordDict, heads: Weights) -> None:
    """Put classification heads into an instruction, as flat arrays."""
    record[_HEADS] = array_record(heads)


def task_name(message: Message) -> str:
    """Return the task that a message is about; empty where it is about none."""
    config = message.content.config_records.get(CONFIG) if message.has_content() else None
    return str(config.get("task", "")) if config is not None else ""


def read_instruction(message: Message) -> Instruction:
    """Read what the server asks of this node, its arrays packed."""
    content = message.content
    config = content.config_records[CONFIG]
    ema, node_ema = content.array_records.get(_EMA), content.array_records.get(_NODE_EMA)
    initial, heads = content.array_records.get(_INITIAL), content.array_records.get(_HEADS)
    return Instruction(
        task=str(config["task"]),
        round_number=int(cast(int, config["server-round"])),
        run_name=str(config["run-name"]),
        run_folder=str(config["run-folder"]),
        weights=to_tensors(unpack(content.array_records[WEIGHTS])),
        ema=to_tensors(unpack(ema)) if ema is not None else None,
        node_ema=to_tensors(unpack(node_ema)) if node_ema is not None else None,
        initial=to_tensors(unpack(initial)) if initial is not None else None,
        proximal_mu=float(cast(float, config.get("proximal-mu", 0.0))),
        heads=unpack(heads) if heads is not None else {},
    )


def write_reply(reply: Reply) -> RecordDict:
    """Write a node's answer, its arrays packed."""
    content = RecordDict(
        {
            WEIGHTS: pack(reply.weights),
            _STATISTICS: pack(reply.statistics),
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
        like: the weights that were sent: those that come back may not be larger. None: not limited.
        sums: statistics of the expected names and shapes, for the same reason.

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
            statistics=read_statistics(content, sums),
            loss_sum=number(metrics["loss-sum"]),
            num_losses=number(metrics["loss-count"]),
            seconds=number(metrics["seconds"]),
            num_pieces=number(metrics["num-pieces"]),
        )
    except RejectedReply:
        raise
    except KeyError as error:
        raise RejectedReply(f"it holds no {error}") from None
    except Exception as error:  # it comes from outside: numpy alone has half a dozen ways to choke on bytes
        raise RejectedReply(f"it cannot be read ({type(error).__name__})") from None


def write_statistics(site: str, statistics: Mapping[str, NDArray[np.float64]]) -> RecordDict:
    """Write the answer to an evaluation, its arrays packed."""
    return RecordDict({_STATISTICS: pack(statistics), NODE: ConfigRecord({"site": site})})


def read_statistics(
    content: RecordDict, like: Mapping[str, NDArray[np.float64]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Read additive sums.

    Args:
        content: of the answer.
        like: sums of the expected names and shapes: those that come may not be larger. None: not limited.

    Raises:
        RejectedReply: they are missing, too large, or no float64.
    """
    try:
        arrays = unpack_like(_STATISTICS, content, like)
        if any(value.dtype != np.float64 for value in arrays.values()):
            raise RejectedReply("its statistics must be float64")
        return cast(dict[str, NDArray[np.float64]], arrays)
    except RejectedReply:
        raise
    except KeyError as error:
        raise RejectedReply(f"it holds no {error}") from None
    except Exception as error:  # as above
        raise RejectedReply(f"its statistics cannot be read ({type(error).__name__})") from None
