"""Which node is which hospital: names from the SuperLink's registration, or from the files of the public keys."""

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from typer.testing import CliRunner

from fl_app.certificates import key_fingerprint, make_node_key, read_node_key
from fl_app.cli.app import app
from fl_app.cli.sites import bind
from fl_app.errors import FlAppError, OptionError
from fl_app.flower import NodeInfo, registered_nodes
from tests.options import run_config

LARGEST = 2**64 - 1


def node(node_id: int, key: Path, name: str = "", status: str = "online") -> NodeInfo:
    return NodeInfo(node_id=node_id, public_key=read_node_key(key), name=name or None, status=status)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    return {name: make_node_key(tmp_path, name) for name in ("north", "south", "west")}


def answering(monkeypatch: pytest.MonkeyPatch, nodes: list[NodeInfo]) -> None:
    monkeypatch.setattr("fl_app.flower.registered_nodes", lambda connection: nodes)


def test_what_the_command_prints_is_the_option_for_the_studys_file(
    keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, [node(LARGEST, keys["south"], "south"), node(7, keys["north"], "north", "registered")])
    answer = CliRunner().invoke(app, ["sites", "hospitals"])
    assert answer.exit_code == 0, answer.output
    written = tomllib.loads(answer.stdout)
    assert written == {"sites": f"7=north,{LARGEST}=south"}
    bound = run_config({"federation.sites": written["sites"]}).federation.bound
    assert bound == {7: "north", LARGEST: "south"}
    assert f"# north: registered, key {key_fingerprint(read_node_key(keys['north']))}\n" in answer.stdout
    found = json.loads(CliRunner().invoke(app, ["sites", "hospitals", "--json"]).stdout)
    assert found["sites"] == written["sites"] and found["nodes"]["south"]["node-id"] == str(LARGEST)


def test_names_come_from_the_files_of_the_keys_and_other_nodes_are_left_out(keys: dict[str, Path]) -> None:
    nodes = [node(1, keys["north"]), node(2, keys["south"]), node(3, keys["west"], "west")]
    named = {read_node_key(keys[name]): keys[name] for name in ("south", "north")}
    assert [(site, one.node_id) for site, one in bind(nodes, named).items()] == [("north", 1), ("south", 2)]


def test_a_removed_node_does_not_count(keys: dict[str, Path]) -> None:
    nodes = [node(1, keys["north"], "north", "unregistered"), node(2, keys["south"], "north")]
    assert bind(nodes, {})["north"].node_id == 2


def test_what_binds_nothing_is_an_error_that_says_what_to_do(keys: dict[str, Path], tmp_path: Path) -> None:
    odd = keys["west"].rename(tmp_path / "a b.pub")
    named = {read_node_key(path): path for path in (keys["north"], odd)}
    for nodes, files, said in (
        ([], {}, "No node is registered: `flwr supernode register"),
        ([node(1, keys["north"])], {}, "Node 1 is registered without a name"),
        ([node(1, keys["north"], "a"), node(2, keys["south"], "a")], {}, "Nodes 1 and 2 are both registered as 'a'"),
        ([node(1, keys["north"], "north")], named, "No node is registered with the key of .*a b.pub"),
        ([node(1, keys["north"], "east"), node(2, odd)], named, "is registered as 'east', not as 'north'"),
        ([node(1, odd)], {read_node_key(odd): odd}, "letters, digits"),
    ):
        with pytest.raises(FlAppError, match=said):
            bind(nodes, files)


def test_a_file_that_holds_no_public_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.pub cannot be read: No such file"):
        read_node_key(tmp_path / "none.pub")
    private = make_node_key(tmp_path, "north").with_suffix(".key")
    with pytest.raises(OptionError, match=r"north\.key cannot be read: it is no public key in OpenSSH's format"):
        read_node_key(private)


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    key = (
        "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBFnyEKTxHg3cZjgzRYkNINzPOt7xl1vn288ygAOY/YSx"
        "NKWg8BRwXWkWgZwUXU75Ym8NOwcflAy9sFuJy5JP0rrdGGR9df6FWq701mYOLL3BjnBlKT4mR2vLoeCo7srqdw=="
    )
    (tmp_path / "north.pub").write_text(f"ecdsa-sha2-nistp384 {key} north\n")
    printed_by_ssh_keygen = "SHA256:OMzLZHHMfiCVX1xPSrxz8KDSS7ojKkcO4MSYz4BWn3U"
    assert key_fingerprint(read_node_key(tmp_path / "north.pub")) == printed_by_ssh_keygen
    assert key_fingerprint(b"no key") == "unknown"


def test_flower_is_asked_with_its_own_client(monkeypatch: pytest.MonkeyPatch, keys: dict[str, Path]) -> None:
    closed: list[bool] = []

    def list_nodes(request: object) -> SimpleNamespace:
        assert type(request).__name__ == "ListNodesRequest"
        return SimpleNamespace(nodes_info=[node(1, keys["north"], "north")])

    client = SimpleNamespace(ListNodes=list_nodes, close=lambda: closed.append(True))
    monkeypatch.setattr("flwr.cli.flower_config.read_superlink_connection", lambda name: name)
    monkeypatch.setattr("flwr.cli.utils.init_http_client_from_connection", lambda connection: client)
    assert [one.name for one in registered_nodes("hospitals")] == ["north"] and closed == [True]


def test_a_superlink_that_does_not_answer_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise click.ClickException(f"\nno such thing\nSuperLink connection '{name}' not found")

    monkeypatch.setattr("flwr.cli.flower_config.read_superlink_connection", fail)
    with pytest.raises(FlAppError, match=r"^Flower's answer about 'x': SuperLink connection 'x' not found$"):
        registered_nodes("x")
