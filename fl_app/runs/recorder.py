"""Records one pass of a run: figures, pictures, checkpoints and the best model, while its rounds go on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_app.data.split_picture import draw_split, split_table
from fl_app.errors import RunFolderError
from fl_app.messages.arrays import Weights
from fl_app.passes import Pass
from fl_app.runs.audit import replace_model
from fl_app.runs.best import Best
from fl_app.runs.documents import RoundLine, round_moment, round_summary
from fl_app.runs.folder import Checkpoint, RunFolder
from fl_app.runs.history import Losses, draw_history, measured_losses, round_line
from fl_app.runs.report.live import LiveReport
from fl_app.runs.run_json import add_nodes, note_answers
from fl_app.runs.status import Status
from fl_app.runs.tracking import Tracker
from fl_app.strategies.outcomes import RoundRecord, Snapshot, Traffic
from fl_app.strategies.roster import Roster
from fl_app.sums import Sums, only

log = logging.getLogger(__name__)


class TaskRun:
    """Observer of a pass: writes figures, galleries, checkpoints, and the best model."""

    def __init__(
        self,
        run_pass: Pass[Any],
        folder: RunFolder,
        status: Status,
        roster: Roster,
        report: LiveReport,
        tracker: Tracker | None = None,
    ) -> None:
        self.run_pass = run_pass
        self.task = run_pass.task
        self.folder = folder
        self.status = status
        self.roster = roster
        self.report = report
        self.tracker = tracker or Tracker()
        self.num_rounds = run_pass.num_rounds
        self.last: Snapshot | None = None
        self.best = Best()
        self.best_drawn = Best()
        self.history: list[RoundLine] = []
        self._num_noted = 0
        self._unsaved: Checkpoint | None = None  # of the last round, if that was no round with a checkpoint

    def resume(self, checkpoint: Checkpoint | None, initial: Weights) -> Snapshot | None:
        """Read what an earlier process left, and return what the strategy is restored from; None: it begins anew."""
        done = 0
        if checkpoint is not None:  # safetensors sorts names; sums and FedAvgM need the model's order
            models = {name: in_order_of(initial, saved) for name, saved in checkpoint.models.items()}
            done = checkpoint.round_number
            self.last = Snapshot(done, models, checkpoint.state, checkpoint.values["strategy"])
            log.info("Resumed after round %d of %s", done, self.run_pass.name)
            self.folder.warn_of_damage(self.run_pass.name)
            if self.folder.best_checkpoint(self.run_pass.name) is not None:  # else a new best model is searched
                self.best = Best(**checkpoint.values["best"])
            self.best_drawn = self._saved_best_drawn(checkpoint)
        elif any(line.task == self.run_pass.name for line in self.folder.read_metrics()):
            log.warning("No checkpoint of %s was saved: it begins again at round 1", self.run_pass.name)
        self._read_history(done)
        return self.last

    @property
    def models(self) -> dict[str, Weights]:
        """The sets of weights after the last round that has ended, by name."""
        return self.last.models if self.last else {}

    def waiting(self, connected: int, needed: int, missing: Sequence[str]) -> None:
        """Write how many sites are connected, and which are missing."""
        named = f"; missing: {', '.join(missing)}" if missing else ""
        said = f"{connected} of {needed} nodes are connected{named}"
        described = {site: self.roster.sites[node].counts() for site, node in self.roster.names().items()}
        self.status.set("waiting", said, described=described)

    def measuring(self, answered: int, asked: int) -> None:
        """Write how many sites have answered a question outside a round."""
        self.status.show_measuring(answered, asked)

    def answered(self, message_type: str, sites: Sequence[str], traffic: Traffic) -> None:
        """Count the sites' answers in run.json; a run goes on without the counts."""
        try:
            note_answers(self.folder.path, message_type, sites, traffic.down, traffic.up)
        except RunFolderError as error:
            log.warning("The answers to %s could not be counted: %s", message_type, error)

    def rounds_over(self) -> None:
        """Write that the last round is over."""
        self.status.set("finishing")

    def progressed(self, record: RoundRecord) -> None:
        """Write which sites take part and which have answered."""
        self._note_sites()
        self.status.show_round(record, self.num_rounds)

    def round_ended(self, record: RoundRecord, after: Snapshot) -> None:
        """Write the round's line; save a checkpoint and draw a gallery if the round has one."""
        losses = measured_losses(self.task.loss_of, record.sums())
        self._remember_best(record.round_number - 1, losses)
        self.last = after
        drawn = self._drawn(after) if record.reason is None else {}
        raw = only(record.total_sums(), "raw")
        line = round_line(record, self.num_rounds, losses, self.task.figures(raw) if raw else {}, drawn)
        self.history.append(line)
        self.folder.append_metrics(line)
        self.tracker.add(line)
        self.status.count(record.nodes, round_moment(line))
        self.status.num_failed_rounds += line.outcome == "failed"
        self.status.show_round(record, self.num_rounds)
        log.info("%s", round_summary(line))
        number = record.round_number
        if self.run_pass.is_drawn(number) and number < self.num_rounds:
            self.draw(f"round-{number:04d}", losses)
        if self.run_pass.is_kept(number):
            self.checkpoint()
        else:
            self._unsaved = self._current()
        self.report.refresh()

    def finish(self, parts: Mapping[str, Sums]) -> str:
        """Choose the better of raw and averaged weights by the final measurement; draw what will be exported.

        Args:
            parts: what each site measured.

        Returns:
            The name of the chosen weights.
        """
        losses = measured_losses(self.task.loss_of, parts)
        self._remember_best(self.num_rounds, losses)
        name = losses.better or "raw"
        number, used, weights = self.exported(name)
        is_last = number == self.num_rounds
        self.draw("final", losses, None if is_last else {f"{used} of round {number} (used)": weights})
        if self.best.models:
            self.checkpoint()
        return name

    def exported(self, chosen: str) -> tuple[int, str, Weights]:
        """Return round, name and weights of the model to export: the last one, or the one with the best images.

        Args:
            chosen: name of the last round's better weights.
        """
        best = self.best_drawn
        if best.loss is None or self.run_pass.config.quality.export != "best":
            return self.num_rounds, chosen, self.models[chosen]
        self._save_best()
        saved = self.folder.best_drawn(self.run_pass.name)
        assert saved is not None
        return best.round_number, best.name, in_order_of(self.models["raw"], saved.models[best.name])

    def export(self, number: int, name: str, write: Callable[[Path], None], quarantine: str | None = None) -> None:
        """Export the weights of a round; `write` and `quarantine`: see `audit.replace_model`."""
        replace_model(self.folder.task(self.run_pass.name), write, quarantine)
        log.info("Exported the %s weights of round %d", name, number)

    def _saved_best_drawn(self, checkpoint: Checkpoint) -> Best:
        """Return the model with the best images, if the one on disk is that of the checkpoint and no later one."""
        saved = self.folder.best_drawn(self.run_pass.name)
        found = Best(**checkpoint.values.get("best-drawn", {}))
        is_saved = saved is not None and (saved.round_number, list(saved.models)) == (found.round_number, [found.name])
        return found if is_saved or self.run_pass.config.quality.export != "best" else Best()

    def checkpoint(self) -> None:
        """Save all that a resumed run needs, and the best model if it has changed."""
        self._unsaved = None  # first: an older round must never be saved beside a newer best model
        self._save_best()
        self.folder.save_checkpoint(self.run_pass.name, self._current())

    def save_last_round(self) -> None:
        """Save the last finished round if the run stops between two checkpoints."""
        if self._unsaved is None:
            return
        try:
            self._save_best()
            self.folder.save_checkpoint(self.run_pass.name, self._unsaved)
        except RunFolderError as error:  # a full disk, which may be why the run stops
            log.error("The last round cannot be saved: %s", error)
        self._unsaved = None

    def draw(self, name: str, losses: Losses, shown: Mapping[str, Weights] | None = None) -> None:
        """Draw the history, and a gallery of sets of weights side by side.

        Args:
            name: of the gallery.
            losses: of the weights of the last round.
            shown: sets of weights by the words above them; None: all of the last round, the better one marked.
        """
        draw_history(self.history, self.folder.task(self.run_pass.name) / "history.png")
        if self.run_pass.gallery is None:
            return
        if shown is None:
            shown = {f"{key} (used)" if key == losses.better else key: one for key, one in self.models.items()}
        path = self.folder.task(self.run_pass.name) / "samples" / f"{name}.png"
        self.run_pass.gallery({words: self.run_pass.module(weights) for words, weights in shown.items()}, path)
        self.status.set_gallery(path)

    def _current(self) -> Checkpoint:
        """Return all that a resumed run needs."""
        assert self.last is not None
        values: dict[str, object] = {"strategy": self.last.values, "best": self.best.values()}
        if self.best_drawn.loss is not None:
            values["best-drawn"] = self.best_drawn.values()
        return Checkpoint(self.last.last_round, self.last.models, self.last.arrays, values)

    def _save_best(self) -> None:
        if self.best.models:
            which = {"loss": self.best.loss, "name": self.best.name}
            best = Checkpoint(self.best.round_number, self.best.models, {}, which)
            self.folder.save_best(self.run_pass.name, best)
            self.best.models = {}
        if self.best_drawn.models:
            drawn = Checkpoint(self.best_drawn.round_number, self.best_drawn.models, {}, self.best_drawn.values())
            self.folder.save_best_drawn(self.run_pass.name, drawn)
            self.best_drawn.models = {}

    def _drawn(self, after: Snapshot) -> dict[str, float]:
        """Judge images of the weights after a round with a gallery, or the last one; remember the best weights."""
        number = after.last_round
        if not (self.run_pass.is_drawn(number) or number == self.num_rounds):
            return {}
        known = self.roster.frozen.values()
        counts, held = (np.sum([site[part] for site in known], axis=0) for part in ("test", "train"))
        found = self.run_pass.drawn(after, counts, [bool(count) for count in held])
        for name, distance in found.items():
            if self.best_drawn.loss is None or distance < self.best_drawn.loss:
                keeps = self.run_pass.config.quality.export == "best"
                self.best_drawn = Best(distance, number, name, {name: after.models[name]} if keeps else {})
        return found

    def _read_history(self, done: int) -> None:
        """Read the rounds up to `done` from metrics.jsonl, and warn of rounds that it lost by damage."""
        self.history = self.folder.cut_metrics(self.run_pass.name, done)
        for line in self.history:
            self.status.num_failed_rounds += line.outcome == "failed"
            self.status.count(line.nodes, round_moment(line))
        lost = sorted(set(range(1, done + 1)) - {line.round for line in self.history})
        if lost:
            which = f"{self.run_pass.name} {', '.join(map(str, lost))}"
            log.warning("metrics.jsonl is damaged: it lacks the figures of these rounds: %s", which)
            self.status.blemish(f"metrics.jsonl is damaged and lacks the figures of these rounds: {which}")

    def _remember_best(self, number: int, losses: Losses) -> None:
        name = losses.better
        if name is not None and (self.best.loss is None or losses.of[name] < self.best.loss):
            self.best = Best(losses.of[name], number, name, self.models)

    def _note_sites(self) -> None:
        """Write which sites hold which images, as soon as they are known."""
        known = {site.site: site for site in self.roster.sites.values()}
        if len(known) == self._num_noted:
            return
        self._num_noted = len(known)
        sites = [known[name] for name in sorted(known)]
        names = self.roster.expected.class_names
        add_nodes(self.folder.path, {site.site: site.counts() for site in sites}, names)
        counts = {site.site: site.train_counts for site in sites}
        log.info("Training images of each site and class:\n%s", split_table(counts, names))
        draw_split(counts, names, self.folder.path / "split.png")


def in_order_of(weights: Weights, saved: Weights) -> Weights:
    """Return saved arrays in the model's own order; raises RunFolderError if they are not this model's."""
    if saved.keys() != weights.keys():
        raise RunFolderError("The checkpoint holds the weights of another network: start a new run instead.")
    return {key: saved[key] for key in weights}
