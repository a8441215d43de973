"""What a run says of itself in Python."""

import json
from pathlib import Path

import numpy as np
import pytest

from fl_app import OptionError, Run, RunFolderError, list_runs, open_run
from fl_app.diffusion.pictures import to_picture
from fl_app.diffusion.pipeline import open_pipeline


def lines(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_a_row_for_each_round_with_the_numbers_of_the_file(run: Run) -> None:
    metrics = run.metrics()
    assert list(metrics["train-loss"]) == [line["train-loss"] for line in lines(run)]
    classified = metrics[metrics["task"] == "classification"]
    assert list(classified["accuracy"]) == [
        line["figures"]["accuracy"]  # type: ignore[index]
        for line in lines(run)
        if line["task"] == "classification"
    ]
    assert set(metrics["contributed"]) == {2}


def test_metrics_by_site_are_a_row_for_each_round_and_site(run: Run) -> None:
    sites = run.metrics(by_site=True)
    assert len(sites) == 2 * len(lines(run))
    assert set(sites["site"]) == {"site-0", "site-1"}
    assert set(sites["outcome"]) == {"contributed"}


def test_a_run_without_a_finished_round_has_metrics_without_rows(tmp_path: Path) -> None:
    assert list(Run(tmp_path).metrics().columns) == ["task", "round", "outcome"]
    assert len(Run(tmp_path).metrics(by_site=True)) == 0


def test_the_comparison_holds_numbers_and_nan_for_what_is_not_defined(run: Run) -> None:
    table = run.comparison()
    assert table["accuracy"].between(0, 1).all()
    alone = table[table["approach"] == "each node alone"]
    assert np.isnan(alone["auc"]).all() and alone["n"].iloc[0] > 100


def test_the_heads_of_an_exchange_have_the_accuracies_of_the_comparison(run: Run) -> None:
    heads = run.heads()
    tested = heads[(heads["part"] == "test") & (heads["reading"] == "consistent")].set_index("head")["accuracy"]
    compared = run.comparison().query("reading == 'consistent'").set_index("head")["accuracy"]
    assert tested.to_dict() == compared.to_dict()
    assert set(heads[heads["ships"]]["head"]) == {run.classifier().heads[0]}


def test_an_exchange_that_was_not_made_is_refused_with_those_that_were(run: Run) -> None:
    with pytest.raises(RunFolderError, match=r"after round 1\. Rounds with one: 2"):
        run.heads(round=1)
    with pytest.raises(RunFolderError, match="Rounds with one: none"):
        run.heads(task="classification-fedprox")


def test_options_and_pictures_are_those_of_the_folder(run: Run) -> None:
    assert run.options["recipe"] == "demo" and run.options["classification.baselines"] == "local"
    assert run.gallery().size[0] > 100


def test_samples_are_pictures_of_the_pipelines_images_class_by_class(run: Run) -> None:
    drawn = run.sample(["3", 7], 2, seed=4)
    pipeline = open_pipeline(run.folder / "diffusion" / "model")
    expected = [to_picture(image) for image in pipeline([3, 3, 7, 7], seed=4)]
    assert [image.tobytes() for image in drawn] == [image.tobytes() for image in expected]
    assert drawn[0].size == (8, 8) and drawn[0].mode == "L"


def test_without_classes_every_class_is_drawn(run: Run) -> None:
    assert len(run.sample(n=1)) == 10


def test_wrong_wishes_are_refused(run: Run) -> None:
    with pytest.raises(OptionError, match="at least 1, got 0"):
        run.sample(n=0)
    with pytest.raises(OptionError, match="There is no class 'cat'"):
        run.sample(["cat"])
    with pytest.raises(OptionError, match="must be one of exported, raw"):
        run.pipeline("best")


def test_a_folder_without_results_says_what_is_missing(tmp_path: Path) -> None:
    empty = Run(tmp_path)
    for method, words in (
        (empty.comparison, "holds no comparison"),
        (empty.gallery, "holds no gallery"),
        (empty.heads, "holds no exchange"),
        (empty.classifier, "no run folder"),
        (empty.pipeline, "no finished diffusion model"),
    ):
        with pytest.raises(RunFolderError, match=words):
            method()


def test_runs_are_opened_by_folder_by_name_or_as_the_newest(run: Run) -> None:
    out = run.folder.parent
    assert open_run(run.folder) == open_run(run.name, out) == open_run(runs=out) == run
    assert list_runs(out) == [run]
    with pytest.raises(RunFolderError, match="no run folder of that name"):
        open_run("nowhere", out)
