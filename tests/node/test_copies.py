"""A hospital's node looks for copies among images that it draws itself, once, and keeps the pairs to itself."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.diffusion.task import DiffusionTask
from fl_app.files import from_json
from fl_app.messages.arrays import unpack
from fl_app.messages.records import MEMBERSHIP, TRAIN
from fl_app.node.copies import check_number, copies_seed
from fl_app.node.permissions import NotAllowedError
from fl_app.node.state import forget_run
from fl_app.options.sections import OptionValue
from fl_app.runs.audit import read_audit
from fl_app.runs.pairs import MOST_KEPT, Found, files_of_node, files_of_run, read_copies
from tests.data.conftest import write_images
from tests.federation import LocalGrid, run_federation
from tests.node.test_history import Hospital
from tests.node.test_membership import DIFFUSION, ONE, own_weights
from tests.tiny import tiny_run

RUN: dict[str, OptionValue] = {
    "data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1, "data.image-size": 8,
    "data.limit": 0, "diffusion.num-rounds": 1, "audit.membership": True, "audit.copies-images": 30,
    "federation.min-replies": 1, "tasks": "diffusion",
}  # fmt: skip


class Federation:
    """Two hospitals whose model draws their own training images.

    Attributes:
        nodes: their options.
        answers: what they sent about copies.
        grid: that asked them.
        run: the server's folder.
    """

    def __init__(self, folder: Path) -> None:
        sizes = {"north": {"a": 60, "b": 60}, "south": {"a": 40, "b": 50}}
        self.nodes: dict[int, dict[str, OptionValue]] = {
            number: {
                "data-path": str(write_images(folder / site, counts)),
                "site": site,
                "state-dir": str(folder / f"state-{site}"),
            }
            for number, (site, counts) in enumerate(sizes.items())
        }
        self.answers: dict[str, Any] = {}
        self.replies: list[bytes] = []
        self.run = folder / "runs" / "run"
        self.grid: LocalGrid = run_federation(
            tiny_run(folder / "runs", RUN), 2, node_options=self.nodes, meddle=self.note
        )

    def note(self, instruction: Any, reply: Any) -> Any:
        if instruction.metadata.message_type == MEMBERSHIP:
            self.answers[reply.content["node"]["site"]] = unpack(reply.content.array_records["statistics"])
        return reply

    def state(self, number: int) -> Path:
        return Path(str(self.nodes[number]["state-dir"]))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from fl_app.node import copies

    search = copies.search_copies
    with pytest.MonkeyPatch.context() as patch:

        def by_heart(task: DiffusionTask, node: Any, instruction: Any) -> Any:
            train = node.data.train
            some = train.select(torch.arange(30) % len(train))
            patch.setattr(DiffusionTask, "draw_images", lambda *_, **__: some)
            return search(task, node, instruction)

        patch.setattr("fl_app.node.client.search_copies", by_heart)
        yield Federation(tmp_path_factory.mktemp("hospitals"))


def test_the_pairs_lie_in_the_state_closed_to_others_and_the_server_has_none(federation: Federation) -> None:
    for number, site in enumerate(("north", "south")):
        (path,) = files_of_node(federation.state(number))
        assert path.stat().st_mode & 0o777 == 0o600
        assert all(one.stat().st_mode & 0o077 == 0 for one in (path.parent, federation.state(number)))
        found, drawn, trained = read_copies(path)
        assert (found.site, found.run, found.num_drawn) == (site, "run", 30)
        assert 0 < len(found.pairs) <= MOST_KEPT and torch.equal(drawn, trained)
        assert list(federation.answers[site]["copies/pixels/counts"][:2]) == [30.0, 30.0]
    assert files_of_run(federation.run) == [] and not (federation.run / "diffusion" / "copies").exists()


def test_nothing_in_the_answer_is_an_image_or_grows_with_their_number(federation: Federation) -> None:
    sums = federation.answers["north"]
    assert sum(value.size for key, value in sums.items() if key.startswith("copies/")) == 2 + 2 * (4 + 7 + 16)
    audit = read_audit(federation.run)
    assert audit is not None and audit.copies is not None and audit.left_out == {}
    assert audit.copies.spaces["pixels"].sites["north"][:2] == [30, 30]


def test_a_run_that_begins_anew_keeps_nothing_of_a_whole_run_but_the_states_of_its_rounds(
    federation: Federation, tmp_path: Path
) -> None:
    (path,) = files_of_node(federation.state(0))
    folder = Path(shutil.copytree(path.parent, tmp_path / "diffusion"))
    forget_run(folder)
    assert len(list(path.parent.iterdir())) > 3
    assert all(one.name.startswith("state-") for one in folder.iterdir())


def test_asked_again_the_node_draws_nothing_and_sends_the_same(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionTask, "membership", None)
    for question in [one for one in federation.grid.sent if one.metadata.message_type == MEMBERSHIP]:
        reply = federation.grid._answer(question)
        again = unpack(reply.content.array_records["statistics"])
        before = federation.answers[str(reply.content["node"]["site"])]
        assert all(np.array_equal(again[key], value) for key, value in before.items())


def shown(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["copies", *arguments])


def test_the_hospital_sees_the_pairs_with_the_names_of_its_files(federation: Federation, tmp_path: Path) -> None:
    options = " ".join(f'{key}="{value}"' for key, value in federation.nodes[0].items())
    result = shown("--node-config", options, "--json", "--picture", str(tmp_path / "pairs.png"))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    folder = Path(str(federation.nodes[0]["data-path"]))
    assert found["copies"] and all((folder / one["file"]).is_file() for one in found["copies"])
    assert all(Path(one["file"]).parent.name == one["trained-class"] for one in found["copies"])
    assert (tmp_path / "pairs.png").stat().st_size > 1000
    table = shown("--node-config", options).stdout
    assert "near copies 30 of 30 by pixels" in table and found["copies"][0]["file"] in table


def test_without_the_folder_of_images_the_pairs_are_shown_and_no_file(federation: Federation) -> None:
    result = shown("--state-dir", str(federation.state(1)))
    assert result.exit_code == 0 and "south" in result.stdout and "patient-" not in result.stdout
    assert shown("run", "--state-dir", str(federation.state(1))).exit_code == 0
    other = shown("other", "--state-dir", str(federation.state(1)))
    assert other.exit_code == 1 and "of a run other" in str(other.exception)


def test_a_run_that_begins_anew_forgets_the_pairs(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, DIFFUSION)
    own = own_weights(hospital)
    hospital.ask(TRAIN, 1, own, **ONE)
    folder = tmp_path / "run" / "north" / "diffusion"
    (folder / "copies.safetensors").write_bytes(b"pairs")
    hospital.ask(TRAIN, 1, own, **ONE)
    assert folder.is_dir() and not (folder / "copies.safetensors").exists()


def test_the_noise_depends_on_seed_site_and_a_hospitals_key(tmp_path: Path) -> None:
    node = Hospital(tmp_path, DIFFUSION).node
    data = node.data
    variants = [
        node,
        dataclasses.replace(node, config=Hospital(tmp_path, {**DIFFUSION, "seed": 1}).config),
        *(
            dataclasses.replace(node, data=dataclasses.replace(data, site=site, secret=secret))
            for site, secret in (("south", None), ("north", b"a" * 32), ("north", b"b" * 32))
        ),
    ]
    assert len({copies_seed(one) for one in variants}) == len(variants)
    assert copies_seed(node) == copies_seed(Hospital(tmp_path, DIFFUSION).node)


@pytest.mark.parametrize(("images", "is_allowed"), [(0, True), (1, False), (19, False), (20, True)])
def test_no_hospital_sends_counts_over_fewer_images_than_its_minimum(
    tmp_path: Path, images: int, is_allowed: bool
) -> None:
    node = Hospital(tmp_path, {**DIFFUSION, "audit.copies-images": images}).node
    if is_allowed:
        check_number(node)
        return
    with pytest.raises(NotAllowedError, match=r"Raise 'audit\.copies-images', or set it to 0"):
        check_number(node)


def test_a_document_with_more_or_fewer_fields_is_read(tmp_path: Path) -> None:
    found = from_json(Found, b'{"run": "r", "site": "s", "round": 3, "num-drawn": 2, "num-train": 9, "later": 1}')
    assert found == Found(run="r", site="s", round=3, num_drawn=2, num_train=9)
