"""A run in Python: how it stands, its figures, and the models that came out of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fl_app.errors import OptionError, RunFolderError
from fl_app.runs.folder import RunFolder, damaged, read_json, read_options
from fl_app.runs.overview import Overview, find_run, find_runs, look_at, runs_folder

if TYPE_CHECKING:
    import pandas
    from PIL import Image

    from fl_app.api.classifier import Answers, Classifier, Images
    from fl_app.diffusion.pipeline import ClassConditionalPipeline

_TEXTS = ("approach", "reading", "head", "images")  # columns of comparison.csv; the others are numbers


@dataclass(frozen=True)
class Run:
    """A run of a federation: going on, finished or broken. Everything is read from its folder when it is asked for.

    Attributes:
        folder: the run folder, absolute.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The name of the run and of its folder."""
        return self.folder.name

    @property
    def options(self) -> dict[str, Any]:
        """Every option of the run, by dotted name, such as `diffusion.epochs`.

        Raises:
            RunFolderError: run.json is missing or damaged.
        """
        found: dict[str, Any] = read_options(RunFolder(self.folder))["options"]
        return found

    def status(self) -> Overview:
        """Tell how the run stands: `.state`, `.progress`, the sites' outcomes in `.sites`, and `.problems`."""
        return look_at(self.folder, time.time())

    def metrics(self, *, by_site: bool = False) -> "pandas.DataFrame":
        """Return a row for each finished round, named as in metrics.jsonl: task, round, outcome, train-loss, ….

        Figures of held-out images, such as `accuracy`, are columns, too; `contributed` counts the sites in the mean.

        Args:
            by_site: a row for each round and site instead: task, round, site, outcome, reason, images, seconds, ….
        """
        import pandas

        lines = RunFolder(self.folder).read_metrics()
        if by_site:
            rows = [
                {"task": line["task"], "round": line["round"], "site": site, **found}
                for line in lines
                for site, found in line["nodes"].items()
            ]
            return pandas.DataFrame(rows, columns=None if rows else ["task", "round", "site", "outcome"])
        rows = [_flat(line) for line in lines]
        return pandas.DataFrame(rows, columns=None if rows else ["task", "round", "outcome"])

    def comparison(self) -> "pandas.DataFrame":
        """Return comparison.csv: what each way of training a classifier reaches on test images, one row each.

        A figure that is not defined or was not measured is nan.

        Raises:
            RunFolderError: the run has trained no classifier, or is not finished.
        """
        import pandas

        path = self.folder / "classification" / "comparison.csv"
        if not path.is_file():
            raise RunFolderError(f"{self.folder} holds no comparison: it has trained no classifier, or not finished.")
        table = pandas.read_csv(path)
        numbers = [name for name in table.columns if name not in _TEXTS]
        return table.assign(**{name: pandas.to_numeric(table[name], errors="coerce") for name in numbers})

    def heads(self, *, round: int | None = None, task: str = "classification") -> "pandas.DataFrame":
        """Return a row for each head, reading and part of the images: what an exchange of prototypes has measured.

        Columns: reading, head, part (validation or test), n, accuracy, accuracy-low and accuracy-high (95 %), and the
        same of balanced-accuracy, auc and macro-f1; nll; and whether the head `ships`. None becomes nan.

        Args:
            round: after which the exchange was; None: the last one.
            task: `classification`, or one of its baselines, such as `classification-fedprox`.

        Raises:
            RunFolderError: there was no such exchange, or its file is damaged.
        """
        import pandas

        folder = self.folder / task / "prototypes"
        found = {int(path.stem.removeprefix("round-")): path for path in sorted(folder.glob("round-*.json"))}
        number = max(found, default=0) if round is None else round
        if number not in found:
            known = ", ".join(map(str, sorted(found))) or "none"
            raise RunFolderError(
                f"{self.folder} holds no exchange of {task} after round {number}. Rounds with one: {known}."
            )
        result = read_json(found[number])
        try:
            return pandas.DataFrame([_head_row(row, result["shipped"]) for row in result["results"]])
        except (AttributeError, LookupError, TypeError, ValueError):
            raise damaged(found[number]) from None

    def gallery(self) -> "Image.Image":
        """Return the newest picture of drawn images: a row for each class.

        Raises:
            RunFolderError: there is none yet.
        """
        from PIL import Image

        found = sorted((self.folder / "diffusion" / "samples").glob("*.png"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise RunFolderError(f"{self.folder} holds no gallery: see the option 'gallery-every'.")
        with Image.open(found[-1]) as picture:
            picture.load()
            return picture

    def classifier(self) -> "Classifier":
        """Open the classifier that came out.

        Raises:
            RunFolderError: there is none, or it is damaged.
        """
        from fl_app.api.classifier import open_classifier

        return open_classifier(self.folder)

    def predict(self, images: "Images", head: str | None = None, *, convert: bool = False) -> "Answers":
        """Name the class of images: `classifier().predict(images, head, convert=convert)`, which see."""
        return self.classifier().predict(images, head, convert=convert)

    def pipeline(
        self, weights: str = "exported", checkpoint: Literal["last", "best"] = "last"
    ) -> "ClassConditionalPipeline":
        """Open the diffusion model as a pipeline: `pipeline(["3", "7"], seed=1)` is [2, C, H, W] float32 in [-1, 1].

        Args:
            weights: `exported`, the better ones; or `raw`, `ema` or `node-ema` of a checkpoint.
            checkpoint: which one.

        Raises:
            RunFolderError: there is no exported model, or no such checkpoint.
            OptionError: no such weights.
        """
        from fl_app.api.drawing import open_model

        return open_model(self.folder, weights, checkpoint)

    def sample(
        self,
        classes: Sequence[str | int] | None = None,
        n: int = 8,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        weights: str = "exported",
        checkpoint: Literal["last", "best"] = "last",
    ) -> "list[Image.Image]":
        """Draw images, grey or RGB, of the model's own size: n of the first class, then n of the next, ….

        Args:
            classes: names or numbers; None: every class of which some site held an image.
            n: images of each class.
            seed: with class and position it fixes each image.
            sampler: `dpm-solver++`, `ddim` or `ancestral`; None: the run's.
            steps: denoising steps; None: the run's.
            guidance: 1 turns it off; None: the run's.
            weights: see `pipeline`.
            checkpoint: see `pipeline`.

        Raises:
            RunFolderError: there is no exported model, or no such checkpoint.
            OptionError: there is no such class, sampler or weights, or n or steps is out of range.
        """
        if n < 1:
            raise OptionError(f"n, the number of images of each class, must be at least 1, got {n}.")
        from fl_app.api.drawing import choose_labels
        from fl_app.diffusion.pictures import to_picture

        pipeline = self.pipeline(weights, checkpoint)
        wanted = [label for label in choose_labels(pipeline, classes) for _ in range(n)]
        images = pipeline(wanted, seed=seed, sampler=sampler, num_steps=steps, guidance_scale=guidance)
        return [to_picture(image) for image in images]


def open_run(run: str | Path | None = None, runs: str | Path | None = None) -> Run:
    """Open a run that is there, whatever became of it.

    Args:
        run: a run folder, or the name of a run in `runs`; None: the newest run there.
        runs: where run folders are; None: ~/fl-app/runs.

    Raises:
        RunFolderError: there is none.
    """
    return Run(find_run(None if run is None else Path(run), runs_folder(runs)))


def list_runs(runs: str | Path | None = None) -> list[Run]:
    """Return all runs in a folder, the newest first, those that are damaged included.

    Args:
        runs: where run folders are; None: ~/fl-app/runs.
    """
    return [Run(folder) for folder in find_runs(runs_folder(runs))]


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Return the scalars of a round's line, its figures among them; nan in place of a number that is not there."""
    scalars = {name: value for name, value in line.items() if not isinstance(value, dict | list)}
    scalars |= {name: float("nan") for name, value in scalars.items() if value is None and name != "reason"}
    nodes = line.get("nodes") or {}
    contributed = sum(node.get("outcome") == "contributed" for node in nodes.values())
    return scalars | (line.get("figures") or {}) | {"nodes": len(nodes), "contributed": contributed}


def _head_row(row: dict[str, Any], shipped: dict[str, Any]) -> dict[str, Any]:
    flat = {name: row[name] for name in ("reading", "head", "part")}
    intervals = row["intervals"] or {}
    for name, value in row["figures"].items():
        if not isinstance(value, list):
            flat[name] = value
        if name in intervals:
            flat[f"{name}-low"], flat[f"{name}-high"] = intervals[name] or (None, None)
    ships = (row["reading"], row["head"]) == (shipped["reading"], shipped["head"])
    return {name: float("nan") if value is None else value for name, value in flat.items()} | {"ships": ships}
