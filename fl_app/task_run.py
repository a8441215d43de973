"""One task of a run: what is written down and saved while its rounds go on."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fl_app.artifacts import Checkpoint, RunFolder, replace_folder, replacing
from fl_app.config import RunConfig
from fl_app.data.split_picture import draw_split, split_table
from fl_app.errors import RunFolderError
from fl_app.metrics.additive import Statistics, add
from fl_app.metrics.voting import decide
from fl_app.records import Weights, to_numpy, to_tensors
from fl_app.report.history import draw_history
from fl_app.runs import add_nodes
from fl_app.status import Status
from fl_app.strategies.averages import ServerEma
from fl_app.strategies.ledger import NodeOutcome, RoundRecord
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.roster import Roster
from fl_app.tasks.base import Task
from fl_app.tasks.registry import initial_weights

log = logging.getLogger(__name__)

MODEL_NAMES = ("raw", "ema", "node-ema")


@dataclass
class Best:
    """The model with the lowest validation loss so far.

    Attributes:
        loss: its loss; None before anything was measured.
        round_number: after which round; 0 is the start.
        models: its weights by name, while they are not on disk.
        name: which of them had that loss.
    """

    loss: float | None = None
    round_number: int = 0
    name: str = "raw"
    models: dict[str, Weights] = field(default_factory=dict)


class TaskRun:
    """Watches the rounds of a task: figures, galleries, checkpoints, and the best model."""

    def __init__(self, config: RunConfig, task: Task, folder: RunFolder, status: Status, roster: Roster) -> None:
        self.config = config
        self.task = task
        self.folder = folder
        self.status = status
        self.roster = roster
        self.num_rounds = task.options.num_rounds
        self.strategy: Resilient | None = None
        self.models: dict[str, Weights] = {}
        self.best = Best()
        self.history: list[dict[str, Any]] = []
        self._num_noted = 0

    def begin(self, strategy: Resilient, ema_horizon: float, with_node_ema: bool) -> tuple[Weights, int]:
        """Set the strategy up from the newest checkpoint, or afresh.

        Returns:
            The weights to start from and the number of the first round.
        """
        self.strategy = strategy
        checkpoint = self.folder.last_checkpoint(self.task.name)
        weights = to_numpy(initial_weights(self.task, self.config.seed))
        models = dict.fromkeys(MODEL_NAMES, weights)
        if checkpoint is not None:  # safetensors sorts names; sums over arrays, and FedAvgM, go by the model's order
            models = {name: in_order_of(weights, saved) for name, saved in checkpoint.models.items()}
        if ema_horizon > 0:
            strategy.ema = ServerEma(models["ema"], ema_horizon * self.num_rounds)
            rounds = range(1, self.num_rounds + 1)
            strategy.ema_rounds = frozenset(
                number for number in rounds if self._is_kept(number) or self._is_drawn(number)
            )
        if with_node_ema:
            strategy.node_ema = models["node-ema"]
        done = 0
        if checkpoint is not None:
            strategy.restore(checkpoint.state, checkpoint.values["strategy"])
            self.best = Best(**checkpoint.values["best"])
            done = checkpoint.round_number
            log.info("Resumed after round %d of %s", done, self.task.name)
        self.history = self.folder.cut_metrics(self.task.name, done)
        for line in self.history:
            self.status.num_failed_rounds += line["outcome"] == "failed"
            self.status.count({site: NodeOutcome(**node) for site, node in line["nodes"].items()})
        self.models = self._current_models(models["raw"])
        return models["raw"], done + 1

    def waiting(self, connected: int, needed: int) -> None:
        """Say how many nodes are awaited."""
        self.status.set("waiting", f"{connected} of {needed} nodes are connected")

    def progressed(self, record: RoundRecord) -> None:
        """Show who takes part and who has answered."""
        self._note_sites()
        self.status.show_round(record, self.num_rounds)

    def round_ended(self, record: RoundRecord, before: Weights, after: Weights) -> None:
        """Write the round down; save and draw what is due."""
        losses = self.losses(record.total_statistics())
        self._remember_best(record.round_number - 1, losses)
        self.models = self._current_models(after)
        line = self._line(record, losses)
        self.history.append(line)
        self.folder.append_metrics(line)
        self.status.count(record.nodes)
        self.status.num_failed_rounds += line["outcome"] == "failed"
        self.status.show_round(record, self.num_rounds)
        _log_round(line, self.num_rounds)
        number = record.round_number
        if self._is_drawn(number) and number < self.num_rounds:
            self.draw(f"round-{number:04d}", losses)
        if self._is_kept(number):
            self.checkpoint(number)

    def finish(self, statistics: Statistics) -> str:
        """Choose the better of raw and averaged weights by the final measurement, and draw it.

        Returns:
            The name of the chosen weights.
        """
        losses = self.losses(statistics)
        self._remember_best(self.num_rounds, losses)
        name = better(losses) or "raw"
        self.draw("final", losses)
        if self.best.models:
            self.checkpoint(self.num_rounds)
        return name

    def export(self, name: str, held: list[bool]) -> None:
        """Write the chosen weights for others to use; `held` tells of each class whether any node had an image."""
        model = self._module(self.models[name])
        replace_folder(self.folder.task(self.task.name) / "model", lambda path: self.task.export(model, path, held))
        log.info("Exported the %s weights of round %d", name, self.num_rounds)

    def checkpoint(self, number: int) -> None:
        """Save all that a resumed run needs, and the best model where it is a new one."""
        assert self.strategy is not None
        if self.best.models:
            which = {"loss": self.best.loss, "name": self.best.name}
            best = Checkpoint(self.best.round_number, self.best.models, {}, which)
            self.folder.save_best(self.task.name, best)
            self.best.models = {}
        arrays, strategy_values = self.strategy.state()
        best_values = {"loss": self.best.loss, "round_number": self.best.round_number, "name": self.best.name}
        values: dict[str, object] = {"strategy": strategy_values, "best": best_values}
        self.folder.save_checkpoint(self.task.name, Checkpoint(number, self.models, arrays, values))

    def draw(self, name: str, losses: dict[str, float | None]) -> None:
        """Draw the history, and a gallery of all sets of weights side by side, the better one marked."""
        with replacing(self.folder.task(self.task.name) / "history.png") as temporary:
            draw_history(self.history, temporary)
        if not self.task.has_gallery:
            return
        used = better(losses)
        shown = {f"{key} (used)" if key == used else key: self._module(weights) for key, weights in self.models.items()}
        path = self.folder.task(self.task.name) / "samples" / f"{name}.png"
        with replacing(path) as temporary:
            self.task.show(shown, temporary)
        self.status.set_gallery(path)

    def losses(self, statistics: Statistics) -> dict[str, float | None]:
        """Finish statistics to the validation loss of each set of weights."""
        return {name: self.task.loss_of(part) for name in MODEL_NAMES if (part := only(statistics, name))}

    def learned(self, parts: Mapping[str, Statistics], chosen: str) -> bool:
        """Tell whether the chosen model is better than the untrained one, on the same images of the same sites.

        If that hinges on one site, most sites must find it better. Where nothing was held out, the training losses of
        the first and the last round are compared; where there is one round only, or none whose loss is known, nothing
        can be said against it. No round that counts: no.

        Args:
            parts: the final measurement of each site.
            chosen: name of the model.
        """
        counted = [line for line in self.history if line["outcome"] == "ok"]
        if not counted:
            return False

        def improved(statistics: Statistics) -> bool | None:
            start, end = only(statistics, "initial"), only(statistics, chosen)
            return self.task.improved(start, end) if start and end else None

        measured = {site: part for site, part in parts.items() if improved(part) is not None}
        if measured:
            return decide(add(measured.values()), measured, lambda total: improved(total) is True, improved)
        losses = [line.get("median-train-loss") for line in counted]  # older runs have not written it down
        curve = [loss for loss in losses if loss is not None]
        return len(curve) < 2 or curve[-1] < curve[0]

    def _is_drawn(self, number: int) -> bool:
        return self.config.gallery_every > 0 and number % self.config.gallery_every == 0

    def _is_kept(self, number: int) -> bool:
        return number % self.config.checkpoint_every == 0 or number == self.num_rounds

    def _remember_best(self, number: int, losses: dict[str, float | None]) -> None:
        name = better(losses)
        loss = losses[name] if name else None
        if name and loss is not None and (self.best.loss is None or loss < self.best.loss):
            self.best = Best(loss, number, name, self.models)

    def _note_sites(self) -> None:
        """Write down, once they are known, which sites hold which images."""
        known = {site.site: site for site in self.roster.sites.values()}
        if len(known) == self._num_noted:
            return
        self._num_noted = len(known)
        sites = [known[name] for name in sorted(known)]
        add_nodes(self.folder, {site.site: site.counts() for site in sites})
        counts = {site.site: site.train_counts for site in sites}
        names = self.roster.expected.class_names
        log.info("Training images of each site and class:\n%s", split_table(counts, names))
        draw_split(counts, names, self.folder.path / "split.png")

    def _current_models(self, raw: Weights) -> dict[str, Weights]:
        assert self.strategy is not None
        models = {"raw": raw}
        if self.strategy.ema is not None:
            models["ema"] = dict(self.strategy.ema.weights)
        if self.strategy.node_ema is not None:
            models["node-ema"] = self.strategy.node_ema
        return models

    def _module(self, weights: Weights) -> nn.Module:
        model = self.task.build_model()
        model.load_state_dict(to_tensors(weights))
        return model

    def _line(self, record: RoundRecord, losses: dict[str, float | None]) -> dict[str, Any]:
        """Return the line of metrics.jsonl; validation figures are of the weights that the round began with."""
        loss_sum, num_losses = record.losses()
        raw = only(record.total_statistics(), "raw")
        ended = time.time()
        return {
            "task": record.task,
            "round": record.round_number,
            "num-rounds": self.num_rounds,
            "outcome": "ok" if record.reason is None else "failed",
            "reason": record.reason,
            "train-loss": loss_sum / num_losses if num_losses else None,
            "median-train-loss": record.median_loss(),
            "validated-round": record.round_number - 1,
            "validation-loss": losses.get("raw"),
            "validation-loss-ema": losses.get("ema"),
            "validation-loss-node-ema": losses.get("node-ema"),
            "figures": self.task.figures(raw) if raw else {},
            "images": int(num_losses),
            "started": ended - record.seconds,
            "ended": ended,
            "seconds": record.seconds,
            "images-per-second": num_losses / record.seconds if record.seconds > 0 else None,
            "bytes-down": record.traffic.down,
            "bytes-up": record.traffic.up,
            "asked": record.asked,
            "nodes": {site: vars(node) for site, node in sorted(record.nodes.items())},
        }


def in_order_of(weights: Weights, saved: Weights) -> Weights:
    """Return saved arrays in the model's own order; raises RunFolderError where they are not this model's."""
    if saved.keys() != weights.keys():
        raise RunFolderError("The checkpoint holds the weights of another network: start a new run instead.")
    return {key: saved[key] for key in weights}


def better(losses: dict[str, float | None]) -> str | None:
    """Return the name with the lowest loss; None where nothing was measured."""
    measured = {name: loss for name, loss in losses.items() if loss is not None}
    return min(measured, key=lambda name: measured[name]) if measured else None


def only(statistics: Statistics, name: str) -> Statistics:
    """Return the statistics of one set of weights, their prefix taken off."""
    return {key.split("/", 1)[1]: value for key, value in statistics.items() if key.startswith(f"{name}/")}


def _log_round(line: dict[str, Any], num_rounds: int) -> None:
    losses = [
        f"{name} {line[key]:.4f}"
        for name, key in (("training", "train-loss"), ("validation", "validation-loss"), ("EMA", "validation-loss-ema"))
        if line[key] is not None
    ]
    contributed = sum(node["outcome"] == "contributed" for node in line["nodes"].values())
    tail = f" FAILED: {line['reason']}" if line["reason"] else ""
    message = "%s round %d/%d: %d of %d nodes contributed; loss %s%s"
    log.info(
        message,
        line["task"],
        line["round"],
        num_rounds,
        contributed,
        len(line["asked"]),
        ", ".join(losses) or "not measured",
        tail,
    )
