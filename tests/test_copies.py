"""The search for copies in whole federations: its file, the gate, sites that lie, and models that draw nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from numpy.typing import NDArray
from safetensors.numpy import load_file

from fl_app.api.run import Run
from fl_app.data.images import ImageSet
from fl_app.diffusion.task import DiffusionTask
from fl_app.messages.arrays import array_record, pack, unpack
from fl_app.messages.records import MEMBERSHIP
from fl_app.metrics.copies import judge_copies
from fl_app.metrics.nearest import SPACES, blank_copies
from fl_app.options.sections import OptionValue
from fl_app.runs.audit import QUARANTINED, QuarantineError, describe_audit, read_audit
from fl_app.runs.pairs import files_of_run, read_copies
from fl_app.runs.report.page import write_report
from tests.federation import LocalGrid, run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

Sums = dict[str, NDArray[np.float64]]
Change = Callable[[Sums], Sums]

NUM_DRAWN = 60
ON: dict[str, OptionValue] = {
    "audit.membership": True,
    "audit.copies-images": NUM_DRAWN,
    "data.limit": 300,
    "data.validation-share": 0.4,
    "tasks": "diffusion",
    "diffusion.num-rounds": 1,
    "diffusion.ema-horizon": 0.0,
}


def federate(
    tmp_path: Path, options: dict[str, OptionValue] | None = None, nodes: int = 3, **grid: Any
) -> tuple[LocalGrid, Path]:
    return run_federation(tiny_run(tmp_path, {**ON, **(options or {})}), nodes, **grid), tmp_path / "run"


def sending(**changes: Change) -> Callable[[Message, Message], Message | None]:
    """Change the sums of some sites, whose names have underscores here; `all`: of all others."""

    def meddle(instruction: Message, reply: Message) -> Message | None:
        site = f"site_{instruction.metadata.dst_node_id - 1000}"
        change = changes.get(site, changes.get("all"))
        if instruction.metadata.message_type != MEMBERSHIP or change is None:
            return reply
        return Message(RecordDict({**reply.content, "statistics": pack(change(sums_of(reply)))}), reply_to=instruction)

    return meddle


def sums_of(reply: Message) -> Sums:
    return {key: np.array(value) for key, value in unpack(reply.content.array_records["statistics"]).items()}


def repeating(sums: Sums) -> Sums:
    """Return sums that say: all generated images are near copies by pixels, and no held-out image is."""
    counts = sums["copies/pixels/counts"]
    return sums | {"copies/pixels/counts": np.array([counts[0], counts[0], counts[2], 0.0])}


def changed(key: str, place: int, value: float) -> Change:
    def change(sums: Sums) -> Sums:
        found = sums[key].copy()
        found[place] = value
        return sums | {key: found}

    return change


def state_of(run: Path) -> tuple[str, str]:
    found = json.loads((run / "status.json").read_text())
    return found["state"], found["reason"] or ""


def questions(grid: LocalGrid) -> list[Message]:
    return [message for message in grid.sent if message.metadata.message_type == MEMBERSHIP]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalGrid, Path, dict[str, Sums]]:
    """A finished run of three sites, and what each of them sent."""
    sent: dict[str, Sums] = {}

    def note(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == MEMBERSHIP:
            sent[f"site-{instruction.metadata.dst_node_id - 1000}"] = sums_of(reply)
        return reply

    return *federate(tmp_path_factory.mktemp("runs"), meddle=note), sent


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose sites all say that the model draws their images."""
    return federate(tmp_path_factory.mktemp("runs"), meddle=sending(all=repeating))[1]


def test_each_site_draws_images_of_its_own_and_a_model_that_learned_little_repeats_none(
    honest: tuple[LocalGrid, Path, dict[str, Sums]],
) -> None:
    grid, run, sent = honest
    found = Run(run).audit()
    assert len(questions(grid)) == 3 and found.copies is not None and found.copies.num_drawn == 3 * NUM_DRAWN
    assert found.copies.verdict != "exceeded" and not found.is_quarantined
    assert found.copies == judge_copies({site: only(sums) for site, sums in sent.items()})
    parts = json.loads((run / "run.json").read_text())["nodes"]
    for space in SPACES:
        one = found.copies.spaces[space]
        assert (one.generated.images, one.num_compared) == (3 * NUM_DRAWN, 3 * NUM_DRAWN)
        held_out = {site: counts[2] for site, counts in one.sites.items()}
        assert held_out == {site: sum(counts["validation"]) for site, counts in parts.items()}
        assert one.ratio is not None and 0.5 < one.ratio < 2.0 and sum(one.histogram) == 3 * NUM_DRAWN
    assert len({sums["copies/pixels/ratio"][1] for sums in sent.values()}) == 3
    assert f"Copies: {found.copies.verdict}: " in (run / "run.log").read_text()
    assert found.overall[0] in (found.membership.verdict, found.copies.verdict)


def only(sums: Sums) -> Sums:
    return {key: value for key, value in sums.items() if key.startswith("copies/")}


def test_the_same_question_has_the_same_bits_as_answer(honest: tuple[LocalGrid, Path, dict[str, Sums]]) -> None:
    grid, _, sent = honest
    for question in questions(grid):
        again = sums_of(grid._answer(question))
        before = sent[f"site-{question.metadata.dst_node_id - 1000}"]
        assert again.keys() == before.keys() and all(np.array_equal(again[key], before[key]) for key in before)


def test_images_in_the_question_change_nothing(honest: tuple[LocalGrid, Path, dict[str, Sums]]) -> None:
    grid, _, sent = honest
    question = questions(grid)[0]
    images: dict[str, NDArray[np.generic]] = {
        "images": np.zeros((NUM_DRAWN, 1, 8, 8), np.uint8),
        "labels": np.zeros(NUM_DRAWN, np.int64),
    }
    for name in ("generated", "images", "drawn", "candidates"):
        content = RecordDict({**question.content, name: array_record(images)})
        asked = Message(content, dst_node_id=question.metadata.dst_node_id, message_type=MEMBERSHIP)
        answer = sums_of(grid._answer(asked))
        assert all(np.array_equal(answer[key], value) for key, value in sent["site-0"].items())


def test_a_models_copies_put_it_aside_with_the_reason(quarantined: Path) -> None:
    found = Run(quarantined).audit()
    assert found.membership.verdict != "exceeded"
    assert found.verdict == "exceeded" and found.is_quarantined and found.quarantine == found.reason
    assert found.copies is not None and found.copies.spaces["unet"].verdict != "exceeded"
    assert f"{3 * NUM_DRAWN} of {3 * NUM_DRAWN} generated images are near copies" in found.reason
    folder = quarantined / "diffusion"
    assert (folder / QUARANTINED).is_dir() and not (folder / "model").exists()
    for text in ((folder / QUARANTINED / "README.md").read_text(), state_of(quarantined)[1], describe_audit(found)):
        assert "generated images are near copies" in text
    assert state_of(quarantined)[0] == "degraded" and describe_audit(found).endswith("The model is quarantined")
    with pytest.raises(QuarantineError, match="generated images are near copies"):
        Run(quarantined).sample("3", 1)
    assert len(Run(quarantined).sample("3", 1, quarantined=True)) == 1


def test_the_report_and_the_card_say_what_was_found(quarantined: Path) -> None:
    page = write_report(quarantined).read_text()
    assert "Does the model repeat training images?" in page and "Audit of copies" in page
    assert "near copies" in (quarantined / "diffusion" / "MODEL_CARD.md").read_text()
    assert f"{3 * NUM_DRAWN} of {3 * NUM_DRAWN}" in page


def test_without_the_gate_copies_are_only_told(tmp_path: Path) -> None:
    _, run = federate(tmp_path, {"audit.gate": False}, meddle=sending(all=repeating))
    assert Run(run).audit().verdict == "exceeded" and (run / "diffusion" / "model").is_dir()
    assert state_of(run)[0] == "completed"


def test_a_resumed_run_keeps_the_verdict_on_copies(quarantined: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(quarantined, tmp_path / "run"))
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "finishing", "reason": None}))
    shutil.rmtree(run / "diffusion" / QUARANTINED)
    grid, _ = federate(tmp_path, {"resume": str(run)})  # now the sites would say something else
    assert not questions(grid) and Run(run).audit() == Run(quarantined).audit()
    assert (run / "diffusion" / QUARANTINED).is_dir() and not (run / "diffusion" / "model").exists()


def test_the_search_can_be_turned_off_and_older_files_are_read(tmp_path: Path, quarantined: Path) -> None:
    _, run = federate(tmp_path, {"audit.copies-images": 0}, nodes=2)
    found = Run(run).audit()
    assert found.copies is None and found.verdict == found.membership.verdict and not files_of_run(run)
    path = run / "diffusion" / "audit.json"
    document = json.loads(path.read_text())
    for key in ("copies", "verdict", "reason"):
        del document[key]
    path.write_text(json.dumps(document))
    older = read_audit(run)
    assert older is not None and older.overall == (found.membership.verdict, found.membership.reason)
    assert describe_audit(older) == describe_audit(found)
    assert "Does the model repeat" not in write_report(run).read_text()


@pytest.mark.parametrize(
    "lie",
    [
        changed("copies/pixels/counts", 1, NUM_DRAWN + 1.0),
        changed("copies/unet/counts", 1, np.nan),
        changed("copies/unet/histogram", 0, 1e6),
        lambda sums: sums | {"copies/pixels/counts": np.zeros(5)},
        lambda sums: {key: value for key, value in sums.items() if not key.startswith("copies/")},
        lambda sums: sums | {key: value * 0 for key, value in only(sums).items()},
    ],
)
def test_sums_that_cannot_be_are_rejected_by_name_and_the_other_sites_decide(tmp_path: Path, lie: Change) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=lie))
    found = Run(run).audit()
    assert found.left_out.keys() == {"site-1"} and found.left_out["site-1"].startswith("refused: ")
    assert found.copies is not None and found.copies.spaces["pixels"].sites.keys() == {"site-0", "site-2"}
    assert (run / "diffusion" / "model").is_dir() and state_of(run)[0] == "degraded"


def test_one_site_of_three_puts_a_model_aside_and_the_reason_names_it(tmp_path: Path) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=repeating))
    found = Run(run).audit()
    assert found.copies is not None and found.copies.verdict == "exceeded" and found.is_quarantined
    assert "This rests on site-1 alone: either the model repeats the images of site-1, or site-1 lies" in found.reason
    assert not (run / "diffusion" / "model").exists()


def test_a_model_that_draws_no_finite_numbers_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionTask, "draw_images", lambda *_, **__: None)
    _, run = federate(tmp_path, nodes=2)
    found = Run(run).audit()
    assert found.copies is not None and found.copies.verdict == "undecided"
    assert found.copies.reason == "not defined: the model drew values that are not finite"
    assert found.left_out == {} and (run / "diffusion" / "model").is_dir() and state_of(run) == ("completed", "")


def test_a_model_that_draws_one_image_over_and_over_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(task: DiffusionTask, model: Any, labels: NDArray[np.int64], **_: Any) -> ImageSet:
        grey = torch.full((len(labels), 1, 8, 8), 128, dtype=torch.uint8)
        return ImageSet(grey, torch.from_numpy(labels), task.info.class_names)

    monkeypatch.setattr(DiffusionTask, "draw_images", draw)
    _, run = federate(tmp_path, nodes=2)
    found = Run(run).audit()
    assert found.copies is not None and found.copies.spaces["pixels"].generated.copies == 0
    assert found.left_out == {} and state_of(run)[0] == "completed"


def test_training_images_that_are_drawn_are_found_and_kept_for_the_nodes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each site draws its own training images, as if the model had them by heart."""
    from fl_app.node import copies

    search = copies.search_copies

    def by_heart(task: DiffusionTask, node: Any, instruction: Any) -> Any:
        train = node.data.train
        positions = torch.arange(NUM_DRAWN) % len(train)
        monkeypatch.setattr(DiffusionTask, "draw_images", lambda *_, **__: train.select(positions))
        return search(task, node, instruction)

    monkeypatch.setattr("fl_app.node.client.search_copies", by_heart)
    _, run = federate(tmp_path)
    found = Run(run).audit()
    assert found.copies is not None and found.copies.verdict == "exceeded" and found.is_quarantined
    for space in SPACES:
        one = found.copies.spaces[space]
        assert one.generated.copies == 3 * NUM_DRAWN and one.nearer is not None and one.nearer > 0.8
    files = files_of_run(run)
    assert [path.stem for path in files] == ["site-0", "site-1", "site-2"]
    for path in files:
        assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
        kept, drawn, trained = read_copies(path)
        assert len(kept.pairs) == 50 and torch.equal(drawn, trained)
        assert {pair.ratio for pair in kept.pairs} == {0.0}


def test_the_images_of_a_site_are_the_same_in_any_batches(honest: tuple[LocalGrid, Path, dict[str, Sums]]) -> None:
    _, run, _ = honest
    task = DiffusionTask.of_run(*_plan(run))
    model = task.build_model()
    weights = load_file(run / "diffusion/model/unet/diffusion_pytorch_model.safetensors")
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    labels = np.repeat(np.arange(10), 2)
    whole = task.draw_images(model, labels, seed=5)
    parts = [task.draw_images(model, labels[a:b], first_image=a, seed=5) for a, b in ((0, 7), (7, 8), (8, 20))]
    assert whole is not None and not any(part is None for part in parts)
    assert torch.equal(whole.images, torch.cat([part.images for part in parts if part is not None]))
    other = task.draw_images(model, labels, seed=6)
    assert other is not None and not torch.equal(whole.images, other.images)


def _plan(run: Path) -> tuple[Any, Any, Any]:
    from fl_app.data.sources import dataset_info
    from fl_app.options.run import RunConfig
    from fl_app.runs.run_json import read_document

    config = RunConfig.from_flat(read_document(run).options)
    return config.pass_named("diffusion"), config, dataset_info(config.data)


def test_a_site_that_uses_no_training_images_draws_none(tmp_path: Path) -> None:
    sent: list[Sums] = []

    def note(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == MEMBERSHIP:
            sent.append(sums_of(reply))
        return reply

    few: dict[int, dict[str, OptionValue]] = {1: {"min-images": 150}}
    _, run = federate(tmp_path, {"audit.num-images": 150, "audit.copies-images": 150}, 2, meddle=note, node_options=few)
    assert only(sent[1]).keys() == blank_copies().keys() and not any(value.any() for value in only(sent[1]).values())
    found = Run(run).audit()
    assert found.left_out == {} and found.copies is not None and found.copies.num_drawn == 150
    assert [path.stem for path in files_of_run(run)] == ["site-0"]
