"""`--approved-code` and `--study` reach the node, and `fl-app code-hash` says what `flwr run` submits."""

import hashlib
import re
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from PIL import Image
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.supernode import add_to_arguments, check_arguments
from fl_app.errors import OptionError
from fl_app.flower import parse_node_config, write_node_config
from fl_app.options.sections import OptionValue
from fl_app.simulation.app import write_app
from tests.cli.fakes import make_fake_app

ROOT = Path(__file__).parents[2]
HASH, OTHER = "0a" * 32, "1b" * 32


@pytest.fixture
def node(tmp_path: Path) -> list[str]:
    (tmp_path / "data/one").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "data/one/b.png")
    return ["--node-config", f'data-path="{tmp_path / "data"}" site="north" state-dir="{tmp_path / "state"}"']


def code_hash(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["code-hash", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_without_them_the_arguments_stay_as_they_are(node: list[str]) -> None:
    assert add_to_arguments([*node, "--insecure"], None, None) == [*node, "--insecure"]
    assert check_arguments(node).approved_code == ()


def test_every_approved_hash_and_the_studys_absolute_path_become_options_of_the_node(
    node: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text("seed = 1\n")
    node[1] += f' approved-code="{OTHER}"'
    options = check_arguments(add_to_arguments(node, [HASH.upper(), HASH], Path("study.toml")))
    assert options.approved_code == (OTHER, HASH)
    assert options.study == str(tmp_path / "study.toml")
    assert options.site == "north"


def test_a_file_of_node_options_may_name_them_too(node: list[str], tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    lines = [f"data-path = {str(tmp_path / 'data')!r}", "site = 'north'", f"state-dir = {str(tmp_path / 'state')!r}"]
    file.write_text("\n".join([*lines, f"approved-code = '{OTHER}'"]))
    assert check_arguments(["--node-config", str(file)]).approved_code == (OTHER,)
    assert check_arguments(add_to_arguments(["--node-config", str(file)], [HASH], None)).approved_code == (OTHER, HASH)


@pytest.mark.parametrize("code", ["", " ", "abc", "g" * 64, HASH + "0"])
def test_what_is_no_hash_is_refused_before_the_node_starts(node: list[str], code: str) -> None:
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        check_arguments(add_to_arguments(node, [code], None))


def test_two_studies_are_refused(node: list[str]) -> None:
    node[1] += ' study="/other.toml"'
    with pytest.raises(OptionError, match="name two studies"):
        add_to_arguments(node, None, Path("study.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "The study '.*' cannot be read: No such file or directory"),
        ("seed = ", "The study '.*' is not valid TOML"),
        ("[classification]\n", "The study '.*' states no option. Expected lines such as .*; get the whole file again"),
        ("sede = 1", "Option 'sede' does not exist. Did you mean 'seed'?"),
        ("[diffusion]\nnum-rounds = 0", "Option 'diffusion.num-rounds' must be at least 1, got 0"),
    ],
)
def test_a_study_with_a_mistake_is_refused_before_the_node_starts(
    node: list[str], tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "study.toml").write_text(text)
    with pytest.raises(OptionError, match=said):
        check_arguments(add_to_arguments(node, None, tmp_path / "study.toml"))


@pytest.mark.parametrize("path", ["/a b/c.toml", "/it's/c.toml", '/say "x"/c.toml', "/back\\slash", "/ü=1"])
def test_options_of_a_node_are_written_as_flower_reads_them(path: str) -> None:
    options: dict[str, OptionValue] = {
        "data-path": path,
        "min-class-count": 5,
        "max-unreadable-share": 0.5,
        "tell-class-names": True,
    }
    assert parse_node_config(write_node_config(options)) == options


def test_the_hash_is_that_of_the_bundle_that_flower_builds_whatever_else_lies_there(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app/notes.py").write_text("no part of the app")
    expected = hashlib.sha256(build_fab_from_disk(tmp_path / "app")).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert code_hash("--app", str(ROOT)) == code_hash("--app", str(tmp_path / "app")) == expected


def test_one_changed_byte_of_the_code_changes_the_hash(tmp_path: Path) -> None:
    folder = make_fake_app(tmp_path / "fake", "complete")
    before = code_hash("--app", str(folder))
    changed = folder / "client_app.py"
    changed.write_text(changed.read_text().replace("return", "Return", 1))
    assert code_hash("--app", str(folder)) != before


def test_a_folder_that_flower_cannot_bundle_is_refused(tmp_path: Path) -> None:
    folder = make_fake_app(tmp_path / "fake", "complete")
    (folder / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(OptionError, match="Flower makes no bundle"):
        CliRunner().invoke(app, ["code-hash", "--app", str(folder)], catch_exceptions=False)
