"""Plug-ins: found by name, run in real rounds, and never imported at a hospital that does not allow them."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from safetensors.numpy import load_file

import client_app
from fl_app import open_run
from fl_app.classification.heads import Head, build_heads
from fl_app.classification.joining import add_site
from fl_app.classification.model import read_classifier
from fl_app.classification.moments import blank_moments, measure_moments, pool
from fl_app.classification.network import build_network
from fl_app.data import medmnist
from fl_app.data.images import DatasetInfo, ImageSet, Source
from fl_app.diffusion.pipeline import open_pipeline
from fl_app.diffusion.sampling import Sampler
from fl_app.doctor.installed import check_plugins
from fl_app.errors import OptionError, RunFolderError
from fl_app.files import write_manifest
from fl_app.messages.records import CONFIG, DESCRIBE, HEADS, MOMENTS, TRAIN
from fl_app.metrics.further import Metric
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig, describe_options
from fl_app.options.sections import OptionValue
from fl_app.plugins import BUILT_IN, PluginError, allow_only, check_name, installed, load, named_by_file
from fl_app.strategies.diffusion import DiffusionRounds
from fl_app.strategies.registry import Strategy, combine
from fl_app.sums import Sums
from fl_app.tasks import build_task, initial_weights
from tests.data.conftest import write_images
from tests.federation import run_federation
from tests.options import NO_MINIMUMS, run_config
from tests.tiny import tiny_run

ROOT = Path(__file__).parents[1]
EXAMPLE = Path(__file__).parent / "plugin_example"
NAMES = {
    "tasks": "autoencoder",
    "sources": "stripes",
    "networks": "one-layer",
    "unets": "mirrored",
    "samplers": "euler",
    "strategies": "half-steps",
    "heads": "naive-bayes",
    "metrics": "calibration-error",
}
CLASSIFIER: dict[str, OptionValue] = {
    "tasks": "classification",
    "data.source": "stripes",
    "data.limit": 0,
    "classification.network": "one-layer",
    "classification.strategy": "half-steps",
    "classification.heads": "naive-bayes",
    "classification.metrics": "calibration-error,brier",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed into."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "sources", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
    subprocess.run([*command, str(folder / "sources")], check=True)
    return folder / "site"


@pytest.fixture
def example(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example is installed, and not imported."""
    monkeypatch.syspath_prepend(package)
    yield
    for name in [name for name in sys.modules if name.startswith("fl_app_example")]:
        del sys.modules[name]


def is_imported() -> bool:
    return any(name.startswith("fl_app_example") for name in sys.modules)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILT_IN.items() for name in names])
def test_whatever_is_built_in_is_there(kind: str, name: str) -> None:
    expected = {"sources": Source, "samplers": Sampler, "strategies": Strategy, "metrics": Metric}
    found = load(kind, name, "")
    assert isinstance(found, expected[kind]) if kind in expected else callable(found)


def test_the_sets_of_medmnist_that_are_built_in_are_those_that_fit() -> None:
    named = [name for name, place in BUILT_IN["sources"].items() if "medmnist" in place]
    assert sorted(named) == sorted(medmnist.flags())


@pytest.mark.usefixtures("example")
def test_plugins_are_listed_and_checked_without_being_imported() -> None:
    assert {kind: list(installed(kind)) for kind in BUILT_IN} == {kind: [name] for kind, name in NAMES.items()}
    meanings = dict(describe_options())
    for option in ("data.source", "classification.network", "diffusion.network", "sampling.sampler"):
        assert "(plug-in)" in meanings[option]
    run_config({"classification.network": "one-layer", "classification.heads": "naive-bayes"})
    assert not is_imported()


def test_a_name_that_two_packages_offer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("honest", "squatter"):
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[fl_app.networks]\nwide = {package}:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    for limit in (nullcontext(), allow_only(["wide"], "not here.")):
        with (
            limit,
            pytest.raises(PluginError, match=r"'wide', which several installed packages offer: honest, squatter"),
        ):
            load("networks", "wide", "classification.network")
    node = NodeConfig.from_flat({"data-path": "/images", "site": "north", "plugins-allowed": "wide"})
    study = RunConfig.received({**run_config().to_flat(), "classification.network": "wide"})
    for config, verdict in ((run_config(), "warning"), (study, "not ready")):
        found = check_plugins(config, node)
        assert found.verdict == verdict
        assert "Several installed packages offer 'wide': honest, squatter. Uninstall all but one." in found.text


@pytest.mark.usefixtures("example")
def test_an_unknown_name_is_refused_with_what_is_built_in_and_what_is_installed() -> None:
    with pytest.raises(OptionError) as caught:
        run_config({"classification.network": "one-lair"})
    assert str(caught.value) == (
        "Option 'classification.network' must be cnn, resnet18, or an installed plug-in of the group "
        "'fl_app.networks' (one-layer), got 'one-lair'. Did you mean 'one-layer'?"
    )
    with pytest.raises(OptionError, match=r"of the group 'fl_app\.sources' \(stripes\)"):
        load("sources", "strips", "data.source")


@pytest.mark.parametrize("name", ["a b", "../x", "", "os:", ":system", "x/y", "a,b", "os:system()"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="must be FedAvg"):
        check_name("strategies", name, "diffusion.strategy")


@pytest.mark.usefixtures("example")
def test_a_classifier_is_trained_with_a_plugin_of_each_kind(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, CLASSIFIER), 2)
    run = open_run(tmp_path / "run")
    assert run.status().progress.state == "completed"
    assert {"calibration-error", "brier", "accuracy"} <= set(run.metrics().columns)
    heads = run.heads()
    assert {"linear", "lda", "naive-bayes"} <= set(heads["head"])
    tested = heads[(heads["head"] == "naive-bayes") & (heads["part"] == "test")]
    assert tested["n"].tolist() == [40]
    assert 0 <= tested["calibration-error"].item() <= 1
    assert 0 <= tested["brier"].item() <= 2

    classifier = read_classifier(tmp_path / "run/classification/model")
    assert classifier.network == "one-layer"
    assert list(classifier.heads)[-1] == "naive-bayes"
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    assert len(run.classifier().predict(images, head="naive-bayes").names) == 3
    added = measure_moments(
        classifier.build_network(),
        ImageSet(images, torch.tensor([0, 1, 1]), classifier.info.class_names),
        torch.device("cpu"),
        1,
    )
    joined = add_site(classifier, "west", added)
    assert not np.array_equal(joined.heads["naive-bayes"].weight, classifier.heads["naive-bayes"].weight)


def test_half_steps_end_half_way_to_the_mean(example: None, tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**CLASSIFIER, "classification.num-rounds": 1, "checkpoint-every": 1}
    weights = {}
    for strategy in ("FedAvg", "half-steps"):
        config = tiny_run(tmp_path / strategy, {**options, "classification.strategy": strategy})
        run_federation(config, 2)
        weights[strategy] = read_classifier(tmp_path / strategy / "run/classification/model").weights
    classifier = read_classifier(tmp_path / "FedAvg/run/classification/model")
    before = initial_weights(build_task("classification", config, classifier.info), config.seed)
    for name, value in weights["half-steps"].items():
        assert torch.equal(value, (before[name] + weights["FedAvg"][name]) / 2)


@pytest.mark.usefixtures("example")
def test_a_diffusion_model_is_trained_and_drawn_from_with_plugins(tmp_path: Path) -> None:
    plugins: dict[str, OptionValue] = {
        "data.source": "stripes",
        "data.limit": 0,
        "diffusion.network": "mirrored",
        "sampling.sampler": "euler",
    }
    run_federation(tiny_run(tmp_path, plugins), 2)
    assert len(open_run(tmp_path / "run").sample(["vertical"], 2, steps=3)) == 2
    pipeline = open_pipeline(tmp_path / "run/diffusion/model")
    assert type(pipeline.unet).__name__ == "MirroredUNet"
    assert pipeline.config.sampler == "euler"


@pytest.mark.usefixtures("example")
def test_a_task_of_a_plugin_is_learned_and_its_weights_are_written(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {"tasks": "autoencoder", "plugin-task.num-rounds": 2, "plugin-task.settings": "4"}
    run_federation(tiny_run(tmp_path, {**options, "data.source": "stripes", "data.limit": 0}), 2)
    run = open_run(tmp_path / "run")
    assert run.status().progress.state == "completed"
    metrics = run.metrics()
    assert metrics["task"].tolist() == ["autoencoder"] * 2
    assert 0 < metrics["grey-levels"].iloc[-1] < 255
    weights = load_file(tmp_path / "run/autoencoder/model/model.safetensors")
    assert weights["1.weight"].shape == (4, 64)
    assert "\nLicence: not stated" in (tmp_path / "run/autoencoder/model/README.md").read_text()


def test_without_its_packages_a_model_is_refused_and_names_what_it_needs(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.syspath_prepend(package)
        both: dict[str, OptionValue] = {**CLASSIFIER, "tasks": "classification,diffusion"}
        run_federation(tiny_run(tmp_path, {**both, "diffusion.network": "mirrored"}), 2)
    for name in [name for name in sys.modules if name.startswith("fl_app_example")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match="'one-layer': the model's file names it, and it is neither built in nor"):
        read_classifier(tmp_path / "run/classification/model")
    with pytest.raises(PluginError, match=r"a class of the module 'fl_app_example\.unet'"):
        open_pipeline(tmp_path / "run/diffusion/model")
    assert not is_imported()


@pytest.mark.usefixtures("example")
def test_in_a_simulation_an_option_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: dict[str, OptionValue] = {
        "classification.network": "fl_app_example.network:build",
        "classification.strategy": "fl_app_example.strategy:HALF_STEPS",
        "classification.heads": "",
        "classification.head": "fl_app_example.head:build",
        "classification.metrics": "fl_app_example.metric:CALIBRATION_ERROR",
        "data.source": "fl_app_example.source:STRIPES",
    }
    run_federation(tiny_run(tmp_path, {**CLASSIFIER, **paths}), 2)
    model = tmp_path / "run/classification/model"
    with pytest.raises(PluginError, match="must stand in the environment variable FL_APP_PLUGINS_ALLOWED"):
        read_classifier(model)
    monkeypatch.setenv("FL_APP_PLUGINS_ALLOWED", str(paths["classification.network"]))
    assert read_classifier(model).shipped == "fl_app_example.head:build"


# At a hospital.

AT_NODES = {
    "tasks": "autoencoder",
    "data.source": "stripes",
    "classification.network": "one-layer",
    "classification.metrics": "calibration-error",
    "diffusion.network": "mirrored",
}
AT_SERVERS = (
    "classification.heads",
    "classification.head",
    "classification.strategy",
    "classification.baselines",
    "diffusion.strategy",
    "sampling.sampler",
)
HOSTILE = [
    *((option, path) for option in (*AT_NODES, *AT_SERVERS) for path in ("os:system", "subprocess:run", "hostile:run")),
    *AT_NODES.items(),  # installed, and not allowed
    ("sampling.sampler", "euler"),  # a node draws images to look for copies
]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file behind when it is imported; what else a name could start fails the test."""
    (tmp_path / "code").mkdir()
    mark = tmp_path / "imported"
    (tmp_path / "code" / "hostile.py").write_text(f"open({str(mark)!r}, 'w')\n\ndef run(*_, **__): pass\n")
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "hostile", raising=False)

    def called(*_: object, **__: object) -> None:
        mark.write_text("called")

    monkeypatch.setattr(os, "system", called)
    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", called)
    return mark


def ask_hospital(tmp_path: Path, kind: str, changes: dict[str, Any], task: str, plugins_allowed: str = "") -> Message:
    """Return what a hospital's real ClientApp answers to a message of a study with these options."""
    if not (tmp_path / "images").exists():
        write_images(tmp_path / "images", {"a": 3, "b": 5})
    study: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.class-names": "a,b",
        "data.num-channels": 1,
        "data.image-size": 8,
    }
    options = {**run_config({**study, "tasks": "diffusion,classification"}).to_flat(), **changes}
    own: dict[str, Any] = {**NO_MINIMUMS, "data-path": str(tmp_path / "images"), "site": "north"}
    own["state-dir"] = str(tmp_path / "state")
    own["plugins-allowed"] = plugins_allowed
    content = RecordDict({CONFIG: ConfigRecord({"task": task, "server-round": 1, "run-name": "r", "run-folder": ""})})
    message = Message(content, dst_node_id=1, message_type=kind)
    return client_app.app(message, Context(1, 1, own, RecordDict(), options))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(("option", "name"), HOSTILE)
def test_at_a_hospital_nothing_that_a_message_names_is_imported(
    tmp_path: Path, hostile: Path, option: str, name: str
) -> None:
    task = "diffusion" if option.startswith(("diffusion", "sampling")) else "classification"
    for kind in (DESCRIBE, TRAIN, MOMENTS, HEADS):
        answer = ask_hospital(tmp_path, kind, {option: name}, task)
        assert not hostile.exists()
        assert not is_imported()
        assert answer.has_error()
        assert f"Option '{option}' is '{name}', which this node does not import" in str(answer.error.reason)


@pytest.mark.usefixtures("example")
def test_a_hospital_imports_what_its_own_option_lists(tmp_path: Path) -> None:
    changes = {"classification.network": "one-layer", "classification.strategy": "half-steps"}
    answer = ask_hospital(tmp_path, DESCRIBE, changes, "", "one-layer")
    assert not answer.has_error()
    refused = ask_hospital(tmp_path, DESCRIBE, {**changes, "classification.metrics": "calibration-error"}, "")
    assert "Option 'classification.network' is 'one-layer'" in str(refused.error.reason)


@pytest.mark.usefixtures("example")
def test_within_a_limit_nothing_else_is_imported_and_an_inner_limit_allows_no_more() -> None:
    with allow_only(["mirrored"], "not here."):
        with named_by_file(), pytest.raises(PluginError, match=r"Option 'n' is 'one-layer': not here\."):
            load("networks", "one-layer", "n")
        assert callable(load("networks", "cnn", "n"))
        assert callable(load("unets", "mirrored", "n"))
    assert callable(load("networks", "one-layer", "n"))


# Files from elsewhere.


@pytest.mark.parametrize("name", ["os:system", "hostile:run"])
def test_a_classifiers_file_imports_no_path(tmp_path: Path, hostile: Path, name: str) -> None:
    run_federation(tiny_run(tmp_path, {"tasks": "classification"}), 2)
    model = tmp_path / "run/classification/model"
    document = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**document, "network": name}))
    write_manifest(model)
    with pytest.raises(PluginError, match="the model's file names it"):
        read_classifier(model)
    assert not hostile.exists()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"unet": ["hostile", "run"]}, "module 'hostile'"),
        ({"scheduler": ["hostile", "run"]}, "module 'hostile'"),
        ({"_class_name": ["hostile", "run"]}, "pipeline of another kind"),
        ({"sampler": "hostile:run"}, "the model's file names it"),
    ],
)
def test_a_diffusion_models_file_imports_no_module(
    tmp_path: Path, hostile: Path, entry: dict[str, Any], words: str
) -> None:
    run_federation(tiny_run(tmp_path, {"diffusion.num-rounds": 1}), 2)
    model = tmp_path / "run/diffusion/model"
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, **entry}))
    write_manifest(model)
    with pytest.raises((PluginError, RunFolderError), match=words):
        open_pipeline(model)(["3"], num_steps=2)
    assert not hostile.exists()


def test_a_diffusion_models_folder_with_code_in_it_is_refused(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, {"diffusion.num-rounds": 1}), 2)
    model = tmp_path / "run/diffusion/model"
    (model / "unet" / "diffusers.py").write_text("raise SystemExit\n")
    write_manifest(model)
    with pytest.raises(RunFolderError, match="holds Python code"):
        open_pipeline(model)


# What a plug-in must be.


class Wrong:
    """Plug-ins that are not what they must be."""

    source = 3

    @staticmethod
    def network(info: DatasetInfo, embedding_size: int) -> torch.nn.Module:
        return torch.nn.Linear(1, 1)

    @staticmethod
    def normalised(info: DatasetInfo, embedding_size: int) -> torch.nn.Module:
        network = build_network(info, "cnn", embedding_size)
        network.features = torch.nn.Sequential(torch.nn.BatchNorm2d(1), network.features)
        return network


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("network", "must be a fl_app.classification.network.Classifier of 2 classes, got Linear"),
        ("normalised", "keeps statistics of images"),
        ("source", "is no function but a int"),
        ("missing", "failed with AttributeError"),
    ],
)
def test_a_network_that_is_not_what_it_must_be_is_refused(attribute: str, words: str) -> None:
    with pytest.raises(PluginError, match=re.escape(words)):
        build_network(DatasetInfo(("a", "b"), 1, 8), f"{__name__}:Wrong.{attribute}", 4)


COMPARING = Strategy(FedAvg, compares_replies=True)


def test_a_strategy_that_compares_replies_gets_all_of_them_and_bears_no_mean_beside_it() -> None:
    options = run_config().strategy
    name = f"{__name__}:COMPARING"
    kind, flower = combine(DiffusionRounds, name, options)
    assert kind(**flower).keeps_all
    assert not combine(DiffusionRounds, "FedAvg", options)[0].keeps_all
    with pytest.raises(OptionError, match=r"averages all nodes, so it cannot be used with .*COMPARING"):
        kind(with_node_ema=True, **flower)


def failing_head(pooled: Sums, shrinkage: float, prior: str) -> Head:
    raise ZeroDivisionError


def flat_head(pooled: Sums, shrinkage: float, prior: str) -> Head:
    return Head(np.zeros((1, 1)), np.zeros(1))


def test_a_head_that_cannot_be_built_costs_the_run_nothing_but_this_head() -> None:
    pooled = pool([blank_moments(2, 3) | {"count": np.ones(2)}])
    heads, reasons = build_heads(pooled, 0.1, further=[f"{__name__}:failing_head", f"{__name__}:flat_head"])
    assert "nearest-mean" in heads
    assert reasons[f"{__name__}:failing_head"] == "building it failed with ZeroDivisionError"
    assert reasons[f"{__name__}:flat_head"].endswith("is no Head of [2, 3]")


def test_what_cannot_be_imported_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'sampling\.sampler' is 'no_such_module:x', and importing"):
        run_federation(tiny_run(tmp_path, {"sampling.sampler": "no_such_module:x"}), 2)
    assert not (tmp_path / "run").exists()


def test_a_module_that_is_missing_is_named() -> None:
    with pytest.raises(PluginError, match="importing no_such_module:x failed with ModuleNotFoundError"):
        load("networks", "no_such_module:x", "classification.network")


# The page.


def test_the_page_shows_the_very_text_of_the_example() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", page, flags=re.DOTALL)
    files = [EXAMPLE / "pyproject.toml", *sorted((EXAMPLE / "fl_app_example").glob("[!_]*.py"))]
    assert [path.name for path in files if path.read_text(encoding="utf-8") not in blocks] == []
