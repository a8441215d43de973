"""A run in Python: its status, its figures and its models."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fl_app.errors import OptionError, RunFolderError
from fl_app.files import to_json
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.runs.overview import Overview, find_run, find_runs, look_at, runs_folder
from fl_app.runs.run_json import read_document

if TYPE_CHECKING:
    import pandas
    from PIL import Image

    from fl_app.api.classifier import Answers, Classifier, Images
    from fl_app.diffusion.pipeline import ClassConditionalPipeline
    from fl_app.runs.audit import Audit

_TEXTS = ("approach", "reading", "head", "images")  # columns of comparison.csv; the others are numbers


@dataclass(frozen=True)
class Run:
    """A run of a federation, live, finished or broken; each method reads the run folder when it is called.

    Attributes:
        folder: the run folder, absolute.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The name of the run and of its folder."""
        return self.folder.name

    @property
    def options(self) -> dict[str, OptionValue]:
        """Every option of the run, by dotted name, such as `diffusion.epochs`.

        Raises:
            RunFolderError: run.json is missing or damaged.
        """
        return read_document(self.folder).options

    def status(self) -> Overview:
        """Return the run's present status: `.state`, `.progress`, the sites' outcomes in `.sites`, and `.problems`."""
        return look_at(self.folder, time.time())

    def metrics(self, *, by_site: bool = False) -> "pandas.DataFrame":
        """Return a row for each finished round, named as in metrics.jsonl: task, round, outcome, train-loss, ….

        Figures of held-out images, such as `accuracy`, have columns, too. `contributed` counts the sites in the mean.

        Args:
            by_site: return a row for each round and site: task, round, site, outcome, reason, images, seconds, ….
        """
        import pandas

        rows: list[dict[str, object]] = []
        for line in RunFolder(self.folder).read_metrics():
            if by_site:
                which = {"task": line.task, "round": line.round}
                rows += [{**which, "site": site, **to_json(node)} for site, node in line.nodes.items()]
                continue
            row = {name: value for name, value in to_json(line).items() if not isinstance(value, dict | list)}
            row |= {name: float("nan") for name, value in row.items() if value is None and name != "reason"}
            contributed = sum(node.outcome == "contributed" for node in line.nodes.values())
            rows.append({**row, **line.figures, "nodes": len(line.nodes), "contributed": contributed})
        columns = ["task", "round", "site", "outcome"] if by_site else ["task", "round", "outcome"]
        return pandas.DataFrame(rows, columns=None if rows else columns)

    def comparison(self) -> "pandas.DataFrame":
        """Return comparison.csv: a row with the test figures of each way of training a classifier.

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

    def quality(self) -> "pandas.DataFrame":
        """Return a row for each figure of the generated images: name, features, class-name, value, floor, ….

        An undefined figure is nan, with its `reason`. `floor`: the figure of real training images in place of generated
        ones. `num-real`, `num-generated` and `num-sites` say what it was measured on.

        Raises:
            RunFolderError: the run has judged no images: it trains no diffusion model, is not finished, or could not.
        """
        import pandas

        from fl_app.runs.quality import QUALITY, quality_rows, read_quality

        found = read_quality(self.folder)
        if found is None or found.problem is not None:
            damage = "its {} is damaged" if (self.folder / QUALITY).exists() else "it holds no {}"
            why = found.problem if found else damage.format(QUALITY)
            raise RunFolderError(f"{self.folder} holds no figures of generated images: {why}.")
        table = pandas.DataFrame(quality_rows(self.folder))
        return table.assign(**{name: pandas.to_numeric(table[name]) for name in ("value", "error", "floor")})

    def heads(self, *, round: int | None = None, task: str = "classification") -> "pandas.DataFrame":
        """Return the figures of an exchange of prototypes: a row for each head, reading and part of the images.

        Columns: reading, head, part (validation or test), n, accuracy, accuracy-low and accuracy-high (95 %), and the
        same of balanced-accuracy, auc and macro-f1; nll; and whether the head `ships`. None becomes nan.

        Args:
            round: the round of the exchange; None: the last one.
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
        from fl_app.runs.exchanges import read_exchange

        exchange = read_exchange(found[number])
        shipped = (exchange.shipped.reading, exchange.shipped.head)
        rows = []
        for head in exchange.results:
            row: dict[str, object] = {"reading": head.reading, "head": head.head, "part": head.part}
            for name, value in head.figures.items():
                if not isinstance(value, list):
                    row[name] = value
                if name in head.intervals:
                    row[f"{name}-low"], row[f"{name}-high"] = head.intervals[name] or (None, None)
            row = {name: float("nan") if value is None else value for name, value in row.items()}
            rows.append({**row, "ships": (head.reading, head.head) == shipped})
        return pandas.DataFrame(rows)

    def audit(self) -> "Audit":
        """Return the audit of the diffusion model: `.verdict`, `.membership.scores["loss"].auc`, `.copies.spaces`, ….

        Raises:
            RunFolderError: there was none, or its file is damaged.
        """
        from fl_app.runs.audit import read_audit

        found = read_audit(self.folder)
        if found is None:
            from fl_app.runs.missing import why_no_audit

            raise RunFolderError(f"{self.folder} holds no audit: {why_no_audit(self.folder)}.")
        return found

    def gallery(self) -> "Image.Image":
        """Return the newest picture of generated images: a row for each class.

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

    def report(self, out: str | Path | None = None) -> Path:
        """Write the run's report, one HTML file, and return its path.

        Args:
            out: the file; None: report.html in the run folder.

        Raises:
            RunFolderError: it cannot be written.
        """
        from fl_app.runs.report.page import write_report

        return write_report(self.folder, None if out is None else Path(out)).absolute()

    def classifier(self) -> "Classifier":
        """Open the run's classifier.

        Raises:
            RunFolderError: there is none, or it is damaged.
        """
        from fl_app.api.classifier import open_classifier

        return open_classifier(self.folder)

    def predict(self, images: "Images", head: str | None = None, *, convert: bool = False) -> "Answers":
        """Name the class of images, as `Classifier.predict` does."""
        return self.classifier().predict(images, head, convert=convert)

    def pipeline(
        self,
        weights: str = "exported",
        checkpoint: Literal["last", "best"] | None = None,
        *,
        quarantined: bool = False,
    ) -> "ClassConditionalPipeline":
        """Open the diffusion model as a pipeline: `pipeline(["3", "7"], seed=1)` is [2, C, H, W] float32 in [-1, 1].

        Args:
            weights: `exported`, those that were better; or `raw`, `ema` or `node-ema` of a checkpoint.
            checkpoint: `last` or `best`, for weights of a checkpoint; None: the last.
            quarantined: open the model although the audit found that it knows its training images.

        Raises:
            RunFolderError: there is no exported model, or no such checkpoint; as QuarantineError: it is quarantined.
            OptionError: no such weights, or a checkpoint is chosen for the exported weights, which have none.
        """
        from fl_app.api.drawing import open_model

        return open_model(self.folder, weights, checkpoint, quarantined=quarantined)

    def sample(
        self,
        classes: str | int | Sequence[str | int] | None = None,
        n: int = 8,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        weights: str = "exported",
        checkpoint: Literal["last", "best"] | None = None,
        quarantined: bool = False,
    ) -> "list[Image.Image]":
        """Draw images, grey or RGB, of the model's own size: n of the first class, then n of the next, ….

        Args:
            classes: a name or number, or several; None: every class of which some site held an image.
            n: images of each class.
            seed: together with class and position it determines each image.
            sampler: `dpm-solver++`, `ddim` or `ancestral`; None: the run's.
            steps: denoising steps; None: the run's.
            guidance: 1 turns it off; None: the run's.
            weights: see `pipeline`.
            checkpoint: see `pipeline`.
            quarantined: see `pipeline`.

        Raises:
            RunFolderError: there is no exported model, or no such checkpoint; as QuarantineError: it is quarantined.
            OptionError: there is no such class, sampler or weights, or n or steps is out of range.
        """
        if n < 1:
            raise OptionError(f"n, the number of images of each class, must be at least 1, got {n}.")
        from fl_app.api.drawing import choose_labels
        from fl_app.diffusion.pictures import to_picture

        pipeline = self.pipeline(weights, checkpoint, quarantined=quarantined)
        wanted = [label for label in choose_labels(pipeline, classes) for _ in range(n)]
        images = pipeline(wanted, seed=seed, sampler=sampler, num_steps=steps, guidance_scale=guidance)
        return [to_picture(image) for image in images]


def open_run(run: str | Path | None = None, runs: str | Path | None = None) -> Run:
    """Open a run: live, finished or broken.

    Args:
        run: a run folder, or the name of a run in `runs`; None: the newest run there.
        runs: where run folders are; None: ~/fl-app/runs.

    Raises:
        UnknownRunError: there is none.
    """
    return Run(find_run(None if run is None else Path(run), runs_folder(runs)))


def list_runs(runs: str | Path | None = None) -> list[Run]:
    """Return all runs in a folder, the newest first, those that are damaged included.

    Args:
        runs: where run folders are; None: ~/fl-app/runs.
    """
    return [Run(folder) for folder in find_runs(runs_folder(runs))]
