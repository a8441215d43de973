"""Which options a run gets, and what wrong ones are told."""

import re
import tomllib
from pathlib import Path

import pytest

from fl_app.errors import OptionError
from fl_app.options.sections import OptionValue
from fl_app.runs.opening import open_run
from fl_app.runs.run_json import new_run_name
from fl_app.simulation.app import read_recipe
from fl_app.simulation.choices import parse_settings, plan_run, to_toml
from fl_app.simulation.claim import claim
from tests.cli.fakes import make_fake_app


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = make_fake_app(tmp_path / "app", "raise")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "small.toml").write_text('seed = 3\n[diffusion]\nnum-rounds = 2\nstrategy = "FedAvgM"\n')
    return folder


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "diffusion.batch-sise=3",
            "Option 'diffusion.batch-sise' does not exist. Did you mean 'diffusion.batch-size'?",
        ),
        ("batch-size=3", "Option 'batch-size' does not exist. Did you mean 'diffusion.batch-size'?"),
        ("diffusion.batch-size=0", "Option 'diffusion.batch-size' must be at least 1, got 0."),
        ("diffusion.batch-size=1.5", "Option 'diffusion.batch-size' must be a whole number, such as 3, got 1.5."),
        ("diffusion.learning-rate=fast", "Option 'diffusion.learning-rate' must be a number, such as 0.5, got 'fast'."),
        ("seed", "--set takes key=value, got 'seed'."),
        ("=3", "--set takes key=value, got '=3'."),
        ("federation.min-nodes=9", "Option 'federation.min-nodes' must be at most the number of nodes, 4, got 9: "),
        ("federation.min-replies=5", "Option 'federation.min-replies' must be at most the number of nodes, 4, got 5: "),
        ("federation.nodes-per-round=6", "'federation.nodes-per-round' must be at most the number of nodes, 4, got 6"),
        ("resume=nowhere", "Option 'resume' must be a run folder, or auto: there is no 'nowhere'"),
    ],
)
def test_a_wrong_setting_is_told_what_is_wrong(app: Path, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        plan_run(app, None, [setting], tmp_path, num_nodes=4)


def test_a_setting_wins_over_the_recipe_and_the_recipe_over_the_default(app: Path, tmp_path: Path) -> None:
    plan = plan_run(app, "small", ["diffusion.num-rounds=7"], tmp_path, num_nodes=5)
    assert plan.config.diffusion.num_rounds == 7
    assert plan.config.diffusion.strategy == "FedAvgM"
    assert plan.config.seed == 3
    assert plan.config.diffusion.num_timesteps == 1000


def test_only_what_differs_from_the_defaults_is_passed_on(app: Path, tmp_path: Path) -> None:
    plan = plan_run(app, None, ["seed=1"], tmp_path, num_nodes=5)
    assert set(plan.overrides) == {"seed", "output-dir", "run-name"}
    assert plan.overrides["output-dir"] == str(tmp_path)
    assert plan.folder == tmp_path / str(plan.overrides["run-name"])


def test_the_last_setting_of_an_option_counts(app: Path, tmp_path: Path) -> None:
    assert plan_run(app, None, ["seed=1", "seed=2"], tmp_path, num_nodes=5).config.seed == 2


def test_values_are_read_as_toml_and_bare_words_as_text() -> None:
    defaults: dict[str, OptionValue] = {"run-name": "", "count": 1, "rate": 0.5, "flag": False, "names": ""}
    settings = ["run-name=20250101", "count=1_000", "rate=1e-3", "flag=true", "names=1,2", "new=a=b"]
    assert parse_settings(settings, defaults) == {
        "run-name": "20250101",
        "count": 1000,
        "rate": 0.001,
        "flag": True,
        "names": "1,2",
        "new": "a=b",
    }


@pytest.mark.parametrize("setting", ['run-name="quoted"', "run-name='quoted'", "run-name=quoted"])
def test_quotes_around_text_are_optional(setting: str) -> None:
    assert parse_settings([setting], {"run-name": ""}) == {"run-name": "quoted"}


def test_options_survive_the_way_through_toml() -> None:
    options: dict[str, OptionValue] = {
        "a.b": 1,
        "c": True,
        "d": 0.5,
        "e": 'a "quoted" \\ path\n',
        "f": "größe",
        "g": float("inf"),
        "h": 1e-5,
    }
    assert tomllib.loads(to_toml(options)) == options


def test_a_recipe_may_be_a_file_and_names_itself(app: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('diffusion.num-rounds = 2\n"data.limit" = 10\n')
    assert read_recipe(str(path), app) == {"recipe": "mine", "diffusion.num-rounds": 2, "data.limit": 10}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "is not valid TOML"),
        (
            "diffusion.block-channels = [32, 64]",
            "Option 'diffusion.block-channels' must be comma-separated text, \"32,64\", got a list",
        ),
        ("", "The recipe '.*' states no option. Expected lines such as seed = 1; get the whole file again"),
        ("seed = 2025-01-01", "Option 'seed' must be a number, true, false or text, got a date"),
    ],
)
def test_a_broken_recipe_is_told_what_is_wrong(app: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=message):
        read_recipe(str(path), app)


def test_a_recipe_that_notepad_wrote_is_read(app: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[data]\r\nlimit = 10\r\n")
    assert read_recipe(str(tmp_path / "mine.toml"), app) == {"recipe": "mine", "data.limit": 10}
    (tmp_path / "wide.toml").write_text("seed = 1\n", encoding="utf-16")
    with pytest.raises(OptionError, match="is not UTF-8 text"):
        read_recipe(str(tmp_path / "wide.toml"), app)


def test_a_list_of_a_setting_becomes_comma_separated_text(app: Path, tmp_path: Path) -> None:
    settings = ['data.class-names=["a","b c"]', "diffusion.block-channels=[32, 64]"]
    config = plan_run(app, None, settings, tmp_path, num_nodes=5).config
    assert config.data.class_names == ("a", "b c") and config.diffusion.block_channels == (32, 64)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('data.class-names=["a,b"]', "no part of it may hold a comma"),
        ("data.class-names=[[1]]", "comma-separated, got a list of something else"),
        ("data.class-names=a;b", "separate class names by commas, without quotes, brackets and semicolons, got 'a;b'"),
        ("data.class-names=[a,b]", "separate class names by commas, without quotes, brackets and semicolons, got '.a'"),
    ],
)
def test_what_is_no_list_of_names_is_refused(app: Path, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        plan_run(app, None, [setting], tmp_path, num_nodes=5)


def test_an_unknown_recipe_is_told_the_known_ones(app: Path) -> None:
    with pytest.raises(OptionError, match="No recipe 'nope': give a TOML file or one of small"):
        read_recipe("nope", app)


def test_a_file_that_is_not_there_is_no_recipe_but_a_missing_file(app: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "study.toml")
    with pytest.raises(OptionError, match=f"There is no file '{missing}'"):
        read_recipe(missing, app)


def test_an_option_in_a_recipe_that_does_not_exist_is_refused(app: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text("[diffusion]\nround = 3\n")
    with pytest.raises(
        OptionError, match=r"Option 'diffusion.round' does not exist. Did you mean 'diffusion.num-rounds'"
    ):
        plan_run(app, str(path), [], tmp_path, num_nodes=5)


def test_a_run_name_holds_time_recipe_and_what_makes_it_unique() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-demo-12ab", new_run_name("demo", "12ab"))


def test_a_taken_run_name_is_refused(app: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/run.json").touch()
    with pytest.raises(OptionError, match="exists already"):
        plan_run(app, None, ["run-name=taken"], tmp_path, num_nodes=5)


def test_a_run_is_resumed_by_its_name_or_its_path(app: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for resume in ("old", str(tmp_path / "old")):
        plan = plan_run(app, None, [f"resume={resume}"], tmp_path, num_nodes=5)
        assert plan.folder == tmp_path / "old"
        assert plan.overrides["resume"] == str(tmp_path / "old")
        assert "run-name" not in plan.overrides


def test_an_automatic_resume_that_finds_nothing_says_that_a_new_run_begins(app: Path, tmp_path: Path) -> None:
    plan = plan_run(app, None, ["resume=auto", "run-name=new"], tmp_path, num_nodes=5)
    assert plan.note == f"resume=auto found nothing to resume in {tmp_path}: a new run begins."
    assert plan.folder == tmp_path / "new" and plan.config.resume == "" and plan.config.run_name == "new"


def test_an_automatic_resume_takes_the_newest_run_that_nobody_goes_on_with(app: Path, tmp_path: Path) -> None:
    first = plan_run(app, None, ["run-name=old", "seed=3"], tmp_path, num_nodes=5)
    old = open_run(first.config, 1)
    settings = ["resume=auto", "seed=3"]
    assert plan_run(app, None, settings, tmp_path, num_nodes=5).note
    old.unlock()
    plan = plan_run(app, None, settings, tmp_path, num_nodes=5)
    assert (plan.folder, plan.overrides["resume"], plan.note) == (old.path, str(old.path), "")
    with claim(old.path, is_new=False):
        assert plan_run(app, None, settings, tmp_path, num_nodes=5).note
    assert plan_run(app, None, ["resume=auto"], tmp_path, num_nodes=5).note  # of another seed


def test_relative_folders_become_absolute(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_run(app, None, ["data.directory=images", "output-dir=runs"], None, num_nodes=5)
    assert plan.overrides["data.directory"] == str(tmp_path / "images")
    assert plan.overrides["output-dir"] == str(tmp_path / "runs")


def test_an_app_without_options_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(OptionError, match="has no valid"):
        plan_run(tmp_path, None, [], None, num_nodes=5)


def test_a_run_of_no_node_is_refused_without_advice_to_want_none(app: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^A run must have at least 1 node, got 0\.$"):
        plan_run(app, None, [], tmp_path, 0)


def test_a_simulation_of_a_study_does_not_wait_for_the_studys_own_nodes(app: Path, tmp_path: Path) -> None:
    plan = plan_run(app, None, ["federation.sites=5=north,6=south"], tmp_path, num_nodes=2)
    assert plan.config.federation.bound == {} and plan.overrides["federation.sites"] == ""
