"""The audit of whole federations: its file, the gate, and sites that lie, fail or say nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from numpy.typing import NDArray
from safetensors.numpy import load_file

from fl_app import passes
from fl_app.api.run import Run
from fl_app.errors import RunFolderError
from fl_app.files import check_manifest
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.records import MEMBERSHIP
from fl_app.metrics.membership import HELD_OUT, NUM_BINS, SCORES, TRAIN
from fl_app.options.sections import OptionValue
from fl_app.runs import audit
from fl_app.runs.audit import QUARANTINED, QuarantineError, read_audit
from fl_app.runs.folder import RunFolder
from fl_app.runs.overview import look_at
from fl_app.runs.quality import read_quality
from fl_app.runs.recorder import TaskRun
from tests.federation import LocalGrid, run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

Sums = dict[str, NDArray[np.float64]]
Change = Callable[[Sums], Sums]

ON: dict[str, OptionValue] = {
    "audit.membership": True,
    "data.limit": 120,
    "data.validation-share": 0.3,
    "diffusion.num-rounds": 1,
    "diffusion.ema-horizon": 0.0,
}


def moved(sums: Sums, part: str, to: int) -> Sums:
    """Return counts whose images of a part are all in one bin."""
    one_bin = np.zeros(NUM_BINS)
    one_bin[to] = 1.0
    return {key: value.sum() * one_bin if key.endswith(f"/{part}") else value for key, value in sums.items()}


def known_by_heart(sums: Sums) -> Sums:
    return moved(moved(sums, TRAIN, 10), HELD_OUT, 100)


def new_to_it(sums: Sums) -> Sums:
    return moved(moved(sums, TRAIN, 100), HELD_OUT, 10)


def sending(**changes: Change) -> Callable[[Message, Message], Message | None]:
    """Change the counts of some sites, whose names have underscores here; `all`: of all others."""

    def meddle(instruction: Message, reply: Message) -> Message | None:
        site = f"site_{instruction.metadata.dst_node_id - 1000}"
        change = changes.get(site, changes.get("all"))
        if instruction.metadata.message_type != MEMBERSHIP or change is None:
            return reply
        sums = {
            key: value.astype(np.float64) for key, value in unpack(reply.content.array_records["statistics"]).items()
        }
        return Message(RecordDict({**reply.content, "statistics": pack(change(sums))}), reply_to=instruction)

    return meddle


def federate(
    tmp_path: Path, options: dict[str, OptionValue] | None = None, nodes: int = 3, **grid: Any
) -> tuple[LocalGrid, Path]:
    return run_federation(tiny_run(tmp_path, {**ON, **(options or {})}), nodes, **grid), tmp_path / "run"


def state_of(run: Path) -> tuple[str, str]:
    found = json.loads((run / "status.json").read_text())
    return found["state"], found["reason"] or ""


def killed_at_the_end(run: Path, tmp_path: Path) -> Path:
    """Return a copy of a run whose server died after its export."""
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps({**status, "state": "finishing", "reason": None}))
    return copied


def asked(grid: LocalGrid) -> int:
    return sum(message.metadata.message_type == MEMBERSHIP for message in grid.sent)


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose sites all say that the model knows their images."""
    return federate(tmp_path_factory.mktemp("runs"), meddle=sending(all=known_by_heart))[1]


def test_each_site_is_asked_once_and_a_model_that_learned_little_passes(tmp_path: Path) -> None:
    grid, run = federate(tmp_path)
    found = read_audit(run)
    assert found is not None and asked(grid) == 3
    assert found.membership.verdict == "passed", found.membership.reason
    assert state_of(run) == ("completed", "") and not (run / "diffusion" / QUARANTINED).exists()
    parts = json.loads((run / "run.json").read_text())["nodes"]
    images = {site: (one.train, one.held_out, one.test) for site, one in found.membership.sites.items()}
    expected = {
        site: tuple(sum(counts[part]) for part in ("train", "validation", "test")) for site, counts in parts.items()
    }
    assert images == expected and sum(train for train, _, _ in images.values()) == found.membership.num_train
    assert (found.weights, found.round, found.left_out) == ("raw", 1, {})
    assert "membership audit: passed: AUC" in (run / "run.log").read_text()


@pytest.mark.parametrize("name", ["raw", "ema"])
def test_the_exported_weights_are_audited(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = TaskRun.finish

    def choose(self: TaskRun, parts: Any) -> str:
        finish(self, parts)
        return name

    monkeypatch.setattr(TaskRun, "finish", choose)
    grid, run = federate(tmp_path, {"diffusion.ema-horizon": 1.0, "diffusion.num-rounds": 2}, nodes=2)
    question = next(one for one in grid.sent if one.metadata.message_type == MEMBERSHIP)
    exported = load_file(run / "diffusion/model/unet/diffusion_pytorch_model.safetensors")
    sent = unpack(question.content.array_records["weights"])
    assert sent.keys() == exported.keys()
    assert all(np.array_equal(sent[key], exported[key]) for key in exported)
    assert Run(run).audit().weights == name


def test_the_weights_of_an_earlier_round_are_audited_if_they_are_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 2.0])
    monkeypatch.setattr(passes, "frechet_distance", lambda *sums: next(values))
    options: dict[str, OptionValue] = {"diffusion.num-rounds": 3, "gallery-every": 2}
    options |= {"quality.curve": "pixels", "quality.curve-images": 30}
    grid, run = federate(tmp_path, {**options, "quality.export": "best"}, nodes=2)
    best = RunFolder(run).best_drawn("diffusion")
    assert best is not None and best.round_number == Run(run).audit().round == 2
    question = next(one for one in grid.sent if one.metadata.message_type == MEMBERSHIP)
    sent = unpack(question.content.array_records["weights"])
    assert all(np.array_equal(sent[key], value) for key, value in best.models["raw"].items())


def test_the_images_of_a_quarantined_model_go_to_no_hospital(tmp_path: Path) -> None:
    judged: dict[str, OptionValue] = {
        "quality.num-images": 20,
        "quality.features": "pixels",
        "quality.usefulness": False,
    }
    grid, run = federate(tmp_path, judged, meddle=sending(all=known_by_heart))
    assert "query.quality" not in {message.metadata.message_type for message in grid.sent}
    found = read_quality(run)
    assert found is not None and found.problem == "since the model is quarantined"


def test_the_audit_can_be_turned_off_and_a_classifier_has_none(tmp_path: Path) -> None:
    classifier: dict[str, OptionValue] = {"tasks": "classification", "classification.num-rounds": 1}
    without: dict[str, OptionValue] = {**ON, "audit.membership": False}
    causes = ((classifier, "it has no task diffusion"), (without, "its option 'audit.membership' asks for none"))
    for options, cause in causes:
        grid, run = federate(tmp_path, options, nodes=2)
        assert asked(grid) == 0 and read_audit(run) is None
        with pytest.raises(RunFolderError, match=f"holds no audit: {cause}"):
            Run(run).audit()
        shutil.rmtree(run)


def test_no_more_images_are_scored_than_the_option_allows(tmp_path: Path) -> None:
    _, run = federate(tmp_path, {"audit.num-images": 7}, nodes=2)
    found = read_audit(run)
    assert found is not None and {site.train for site in found.membership.sites.values()} == {7}


def test_a_model_beyond_the_limit_is_put_aside_with_the_reason(quarantined: Path) -> None:
    folder = quarantined / "diffusion"
    assert not (folder / "model").exists() and (folder / QUARANTINED / "model_index.json").is_file()
    check_manifest(folder / QUARANTINED)
    assert "**Quarantined.** The audit found: the model knows" in (folder / QUARANTINED / "README.md").read_text()
    state, reason = state_of(quarantined)
    assert state == "degraded" and "the diffusion model is quarantined: the model knows its training images" in reason
    overview = look_at(quarantined, 0.0)
    assert overview.audit is not None and overview.audit.is_quarantined
    shown: Any = overview.to_json()["audit"]
    assert shown["membership"]["verdict"] == "exceeded" and shown["max-auc"] == 0.65


def test_a_quarantined_model_is_opened_with_the_flag_only(quarantined: Path, tmp_path: Path) -> None:
    run = Run(quarantined)
    copied = Path(shutil.copytree(quarantined / "diffusion" / QUARANTINED, tmp_path / "copied"))
    for opened in (run, Run(copied), Run(quarantined / "diffusion" / QUARANTINED)):
        for weights in ("exported", "raw") if opened is run else ("exported",):
            with pytest.raises(
                QuarantineError, match=r"is quarantined: the model knows .* --quarantined, or quarantined=True"
            ):
                opened.pipeline(weights)
            assert len(opened.sample("3", 1, weights=weights, quarantined=True)) == 1
    (copied / audit.MARK).write_text("{")
    with pytest.raises(QuarantineError, match="the reason is not known"):
        Run(copied).pipeline()


def test_without_the_gate_the_audit_only_tells(tmp_path: Path) -> None:
    _, run = federate(tmp_path, {"audit.gate": False}, meddle=sending(all=known_by_heart))
    assert Run(run).audit().membership.verdict == "exceeded" and not Run(run).audit().is_quarantined
    assert (run / "diffusion" / "model").is_dir() and state_of(run)[0] == "completed"
    assert len(Run(run).sample("3", 1)) == 1


def test_a_resumed_run_has_nothing_left_to_do_and_is_still_degraded(quarantined: Path, tmp_path: Path) -> None:
    run = killed_at_the_end(quarantined, tmp_path)
    before = (run / "diffusion" / QUARANTINED / "SHA256SUMS").read_bytes()
    grid, _ = federate(tmp_path, {"resume": str(run)})
    assert asked(grid) == 0 and not (run / "diffusion" / "model").exists()
    assert (run / "diffusion" / QUARANTINED / "SHA256SUMS").read_bytes() == before
    assert state_of(run)[0] == "degraded" and "is quarantined" in state_of(run)[1]


def test_a_damaged_quarantined_model_is_exported_anew_with_the_verdict_that_it_had(
    quarantined: Path, tmp_path: Path
) -> None:
    run = killed_at_the_end(quarantined, tmp_path)
    (run / "diffusion" / QUARANTINED / "README.md").write_text("damaged")
    grid, _ = federate(tmp_path, {"resume": str(run)})  # now the sites would say something else
    assert asked(grid) == 0
    assert (run / "diffusion" / QUARANTINED).is_dir() and not (run / "diffusion" / "model").exists()
    assert state_of(run)[0] == "degraded"


@pytest.mark.parametrize("answer", ["error", "silence"])
def test_if_no_site_answers_the_audit_is_undecided_and_the_model_is_exported(tmp_path: Path, answer: str) -> None:
    def meddle(instruction: Message, reply: Message) -> Message | None:
        if instruction.metadata.message_type != MEMBERSHIP:
            return reply
        return None if answer == "silence" else Message(Error(2, "no"), reply_to=instruction)

    _, run = federate(tmp_path, {"federation.round-deadline-seconds": 0.5}, nodes=2, meddle=meddle)
    found = Run(run).audit()
    assert (found.membership.verdict, found.membership.reason) == ("undecided", "no site answered the membership audit")
    assert found.left_out.keys() == {"site-0", "site-1"}
    assert (run / "diffusion" / "model").is_dir()
    before = state_of(run)
    assert before[0] == "degraded" and "no site answered the membership audit" in before[1]
    again, _ = federate(tmp_path / "again", {"resume": str(killed_at_the_end(run, tmp_path / "again"))}, nodes=2)
    assert asked(again) == 0 and state_of(tmp_path / "again/run") == before


def test_a_resumed_run_does_not_forget_a_site_that_a_decided_audit_lacks(tmp_path: Path) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=lambda sums: {**sums, "more": sums["loss/train"]}))
    before = state_of(run)
    assert before[0] == "degraded" and "site-1 once refused (first: membership audit of diffusion, " in before[1]
    shutil.rmtree(run / "diffusion" / "model")  # the audit is kept, and the export done again
    grid, _ = federate(tmp_path / "again", {"resume": str(killed_at_the_end(run, tmp_path / "again"))})
    assert asked(grid) == 0 and state_of(tmp_path / "again/run") == before


def test_the_verdict_on_a_diffusion_model_is_none_on_the_classifier_of_the_same_run(tmp_path: Path) -> None:
    both: dict[str, OptionValue] = {"tasks": "diffusion,classification", "classification.num-rounds": 1}
    _, run = federate(tmp_path, both, meddle=sending(all=known_by_heart))
    assert (run / "diffusion" / QUARANTINED).is_dir() and (run / "classification" / "model").is_dir()
    assert not (run / "classification" / QUARANTINED).exists() and "classification" not in state_of(run)[1]


@pytest.mark.parametrize(("silent", "verdict"), [(("site_1", "site_2"), "undecided"), (("site_1",), "passed")])
def test_an_audit_names_the_sites_that_it_lacks_and_one_site_alone_passes_nothing(
    tmp_path: Path, silent: tuple[str, ...], verdict: str
) -> None:
    nothing = {site: lambda sums: {**sums, "more": sums["loss/train"]} for site in silent}
    _, run = federate(tmp_path, {"data.limit": 600, "audit.copies-images": 60}, meddle=sending(**nothing))
    found, names = Run(run).audit(), ", ".join(site.replace("_", "-") for site in silent)
    assert found.copies is not None and {found.membership.verdict, found.copies.verdict, found.verdict} == {verdict}
    for reason in (found.membership.reason, found.copies.reason):
        assert f"Not audited, since they gave no valid answer: {names}" in reason
        assert ("one site alone answered" in reason) == (verdict == "undecided")


def test_an_audit_that_fails_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fl_app.metrics.membership.judge_membership", fail)
    _, run = federate(tmp_path, nodes=2)
    assert Run(run).audit().membership.verdict == "undecided"
    assert (run / "diffusion" / "model").is_dir()
    assert state_of(run) == ("degraded", "the membership audit failed (ZeroDivisionError)")


def test_a_model_that_knows_its_images_is_put_aside_though_the_search_for_copies_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fl_app.metrics.copies.judge_copies", fail)
    _, run = federate(tmp_path, {"audit.copies-images": 20}, meddle=sending(all=known_by_heart))
    found = Run(run).audit()
    assert found.is_quarantined and found.copies is not None and found.copies.verdict == "undecided"
    assert not (run / "diffusion" / "model").exists()
    assert "the membership audit failed (ZeroDivisionError)" in state_of(run)[1]


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda sums: {**sums, "loss/train": sums["loss/train"] * 0.5}, "not whole numbers"),
        (lambda sums: {**sums, "loss/train": sums["loss/train"] + np.inf}, "not"),
        (lambda sums: {key: value * 2 for key, value in sums.items()}, "were expected"),
        (lambda sums: {key: value * 0 for key, value in sums.items()}, "were expected"),
        (lambda sums: {key: value[:9] for key, value in sums.items()}, ""),
        (lambda sums: {"loss/train": sums["loss/train"]}, ""),
        (lambda sums: {**sums, "more": sums["loss/train"]}, ""),
    ],
)
def test_counts_that_cannot_be_are_rejected_by_name_and_the_other_sites_decide(
    tmp_path: Path, lie: Change, words: str
) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=lie))
    found = Run(run).audit()
    assert found.left_out.keys() == {"site-1"} and found.left_out["site-1"].startswith("refused: ")
    assert words in found.left_out["site-1"] and found.membership.sites.keys() == {"site-0", "site-2"}
    assert (run / "diffusion" / "model").is_dir() and state_of(run)[0] == "degraded"


def test_one_site_of_three_puts_a_model_aside_and_the_reason_names_it(tmp_path: Path) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=known_by_heart))
    found = Run(run).audit()
    assert found.membership.verdict == "exceeded" and found.is_quarantined
    for text in (
        found.reason,
        state_of(run)[1],
        json.loads((run / "diffusion" / QUARANTINED / audit.MARK).read_text())["reason"],
    ):
        assert "This rests on site-1 alone: either the model knows the images of site-1, or site-1 lies" in text
    card = (run / "diffusion" / QUARANTINED / "README.md").read_text()
    assert "**Quarantined.**" in card and "site-1" not in card  # which names no site
    assert not (run / "diffusion" / "model").exists()


def test_one_lying_site_of_three_cannot_free_a_model_that_knows_the_others_images(tmp_path: Path) -> None:
    _, run = federate(tmp_path, meddle=sending(site_1=new_to_it, all=known_by_heart))
    assert Run(run).audit().membership.verdict == "exceeded" and not (run / "diffusion" / "model").exists()


def test_a_damaged_audit_is_told(quarantined: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(quarantined, tmp_path / "run"))
    (run / "diffusion" / "audit.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"audit\.json is damaged"):
        Run(run).audit()
    assert any("audit.json is damaged" in problem for problem in look_at(run, 0.0).problems)


def test_every_score_has_an_interval_around_its_auc(quarantined: Path) -> None:
    scores = Run(quarantined).audit().membership.scores
    assert scores.keys() == set(SCORES)
    for score in scores.values():
        assert score.auc == 1.0 and score.interval is not None
        assert 0.65 < score.interval[0] < score.interval[1] == pytest.approx(1.0)


def test_a_resumed_run_keeps_the_verdict_that_it_had(quarantined: Path, tmp_path: Path) -> None:
    run = killed_at_the_end(quarantined, tmp_path)
    shutil.rmtree(run / "diffusion" / QUARANTINED)
    grid, _ = federate(tmp_path, {"resume": str(run)})
    assert asked(grid) == 0
    assert (run / "diffusion" / QUARANTINED).is_dir() and not (run / "diffusion" / "model").exists()


def test_sites_that_never_trained_are_not_audited(tmp_path: Path) -> None:
    def spoil(instruction: Message, reply: Message) -> Message | None:
        is_first = instruction.metadata.dst_node_id == 1000
        if is_first and instruction.metadata.message_type == "train":
            return Message(Error(2, "no"), reply_to=instruction)
        return reply

    _, run = federate(tmp_path, meddle=spoil)
    assert sorted(Run(run).audit().membership.sites) == ["site-1", "site-2"]


def test_a_site_counts_nothing_of_fewer_images_than_its_minimum(tmp_path: Path) -> None:
    _, run = federate(tmp_path, {"audit.num-images": 2, "partition.min-images": 3})
    found = Run(run).audit()
    assert found.membership.verdict == "undecided" and "sends nothing of fewer than 3" in found.left_out["site-0"]
