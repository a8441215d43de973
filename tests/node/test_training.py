import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.diffusion.averages import ema_decay
from fl_app.diffusion.unet import build_unet
from fl_app.errors import FlAppError
from fl_app.messages.arrays import to_numpy
from fl_app.node.state import NodeState
from fl_app.node.training import (
    LocalResult,
    Objective,
    Progress,
    _load_optimizer_state,
    train_local,
)
from fl_app.optimizers import build_optimizer, schedule
from fl_app.options.training import TrainingOptions
from fl_app.strategies.admission import update_norm
from fl_app.tasks import build_task
from tests.options import run_config

CPU = torch.device("cpu")


def options(**changes: object) -> TrainingOptions:
    names = {f"diffusion.{key.replace('_', '-')}": value for key, value in changes.items()}
    return run_config(names).diffusion  # type: ignore[arg-type]


def images(count: int = 10) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(count) % 2, ("a", "b"))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


class Naming:
    """Cross-entropy of images with some noise on them, so that what is drawn reaches the gradients."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        return Batch(batch.images + 0.1 * torch.randn(batch.images.shape, generator=generator), batch.labels)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(batch.images), batch.labels, reduction="none")


def ordered_by(seed: int) -> Callable[[int], torch.Generator]:
    return lambda epoch: torch.Generator().manual_seed(1000 * seed + epoch)


def trained(net: nn.Module, data: ImageSet | None = None, seed: int = 1, **changes: Any) -> LocalResult:
    given = {
        key: changes.pop(key) for key in ("proximal_mu", "optimizer_state", "ema", "ema_horizon") if key in changes
    }
    progress, objective = changes.pop("progress", Progress(1, 1)), changes.pop("objective", Naming())
    order, noise = ordered_by(seed), torch.Generator().manual_seed(2)
    return train_local(
        net,
        objective,
        data or images(),
        options(**changes),
        progress,
        device=CPU,
        order=order,
        noise=noise,
        **given,
    )


def test_it_takes_the_steps_of_a_plain_loop_bit_for_bit() -> None:
    ours, plain = model(), model()
    result = trained(ours, epochs=2, batch_size=4, lr_schedule="constant", gradient_clip=0.0, learning_rate=0.01)
    optimizer = torch.optim.Adam(plain.parameters(), 0.01, fused=True)
    data, total, noise = images(), 0.0, torch.Generator().manual_seed(2)
    for epoch in range(2):
        for indices in torch.randperm(10, generator=ordered_by(1)(epoch)).split(4):
            x = data.images[indices].float() / 127.5 - 1
            x = x + 0.1 * torch.randn(x.shape, generator=noise)
            loss = nn.functional.cross_entropy(plain(x), data.labels[indices])
            total += loss.item() * len(indices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))
    assert result.loss_sum == pytest.approx(total, rel=1e-5)
    assert (result.num_losses, result.num_steps) == (20, 6)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 2))


def small_unet() -> nn.Module:
    torch.manual_seed(0)
    unet: nn.Module = build_unet(DatasetInfo(("a", "b"), 1, 4), (8, 16), 1, True, dropout=0.1)
    return unet


class Denoising:
    """The diffusion task's own objective, its draws the same for every batch: training in one go and in two differ in
    nothing but the optimiser."""

    def __init__(self) -> None:
        config = run_config({"diffusion.block-channels": "8,16", "diffusion.dropout": 0.1})
        self.task = build_task("diffusion", config, DatasetInfo(("a", "b"), 1, 4))

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        torch.manual_seed(3)  # dropout, too
        return self.task.draw(batch, torch.Generator().manual_seed(3))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.task.losses(model, batch)


class Silent(Naming):
    """Cross-entropy without noise."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        return batch


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("build", "objective"), [(convolutions, Silent), (small_unet, Denoising)])
def test_stopped_and_restored_is_never_stopped_bit_for_bit(
    build: Callable[[], nn.Module], objective: Callable[[], Objective], optimizer: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "batch_size": 4,
        "lr_schedule": "constant",
        "objective": objective(),
        "learning_rate": 0.01,
    }
    kept_going, stopped = build(), build()
    trained(kept_going, epochs=3, **settings)
    state = NodeState(tmp_path, keep=3)
    for number in (1, 2, 3):
        _, kept = state.load_parts(number)
        result = trained(stopped, epochs=1, progress=Progress(number, 3), optimizer_state=kept, **settings)
        state.save_parts(number, {}, result.optimizer_state)
    assert all(torch.equal(a, b) for a, b in zip(kept_going.parameters(), stopped.parameters(), strict=True))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_restored_moments_have_the_strides_of_their_weights(name: str) -> None:
    """Fused kernels walk memory: those of the CPU would mix the weights up, those of CUDA may refuse."""
    net = convolutions().to(memory_format=torch.channels_last)
    chosen = options(optimizer=name)
    state = trained(net, optimizer=name).optimizer_state
    optimizer = build_optimizer(net, chosen)
    _load_optimizer_state(optimizer, state)
    moments = [
        (parameter, value)
        for parameter, entries in optimizer.state.items()
        for value in entries.values()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    ]
    assert len(moments) == len(list(net.parameters())) * (1 if name == "sgd" else 2)
    assert all(parameter.stride() == value.stride() for parameter, value in moments)


def test_dropout_follows_the_generator_and_leaves_torch_as_it_was() -> None:
    def dropping() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))

    one, same = dropping(), dropping()
    trained(one)
    torch.manual_seed(99)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(99))
    trained(same)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


def test_a_strong_proximal_term_keeps_the_weights_near_the_start() -> None:
    start = model()
    free, held = copy.deepcopy(start), copy.deepcopy(start)
    trained(free, epochs=20, learning_rate=0.01, optimizer="sgd")
    trained(held, epochs=20, learning_rate=0.01, proximal_mu=10.0, optimizer="sgd")
    assert update_norm(to_numpy(held.state_dict()), to_numpy(start.state_dict())) < 0.3 * update_norm(
        to_numpy(free.state_dict()), to_numpy(start.state_dict())
    )


def test_a_proximal_term_of_zero_changes_nothing() -> None:
    plain, proximal = model(), model()
    trained(plain)
    trained(proximal, proximal_mu=0.0)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), proximal.parameters(), strict=True))


def test_an_average_without_memory_is_the_last_weights() -> None:
    net = model()
    start = {key: value.clone() for key, value in net.state_dict().items()}
    result = trained(net, ema=start, ema_horizon=0.0)
    assert result.ema is not None
    assert all(torch.equal(result.ema[key], value) for key, value in net.state_dict().items())


def test_an_average_lies_between_start_and_end_and_leaves_what_it_was_given() -> None:
    net = model()
    start = {key: value.clone() for key, value in net.state_dict().items()}
    given = {key: value.clone() for key, value in start.items()}
    result = trained(net, epochs=8, ema=given, ema_horizon=1.0, lr_schedule="constant")
    assert result.ema is not None
    key = "1.bias"
    assert torch.equal(given[key], start[key])
    moved, averaged = net.state_dict()[key] - start[key], result.ema[key] - start[key]
    assert (averaged.abs() < moved.abs()).all() and (averaged * moved > 0).all()


def test_a_loss_that_is_not_finite_is_an_error_and_not_a_reply() -> None:
    class Bad(Naming):
        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            return super().losses(model, batch) * float("nan")

    with pytest.raises(FlAppError, match="no longer finite"):
        trained(model(), objective=Bad())


@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_last_smaller_batch_is_trained_on_too(count: int) -> None:
    assert trained(model(), images(count), epochs=1, batch_size=4).num_losses == count


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_step_size_falls_from_one_to_zero_over_the_whole_training(name: str) -> None:
    factors = [schedule(name, Progress(round_, 5).share_done(step, 4)) for round_ in range(1, 6) for step in range(4)]
    assert factors[0] == 1.0 and 0 < factors[-1] < 0.1
    assert factors == sorted(factors, reverse=True)
    assert schedule("constant", 0.9) == 1.0


def test_an_average_warms_up_before_it_remembers_long() -> None:
    decays = [ema_decay(updates, 1000.0) for updates in (0, 10, 100, 10**6)]
    assert decays == sorted(decays)
    assert decays[0] == pytest.approx(0.1) and decays[-1] == pytest.approx(0.999, abs=1e-4)
    assert ema_decay(50, 0.0) == 0.0


def test_the_kept_state_of_a_model_with_channels_last_can_be_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(memory_format=torch.channels_last)
    state = NodeState(tmp_path, keep=2)
    state.save(1, trained(net).optimizer_state)
    assert state.load_before(2) is not None


def test_bfloat16_autocast_trains_and_keeps_float32_weights() -> None:
    net = model()
    result = trained(net, precision="bfloat16")
    assert result.num_steps > 0 and {p.dtype for p in net.parameters()} == {torch.float32}


def test_a_node_short_of_memory_learns_the_same_and_says_into_how_many_pieces_it_cut() -> None:
    class OnASmallGpu(Naming):
        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            if len(batch.labels) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().losses(model, batch)

    whole, cut = model(), model()
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 10, "proximal_mu": 0.5, "gradient_clip": 1.0}
    expected = trained(whole, **settings)
    found = trained(cut, objective=OnASmallGpu(), **settings)
    assert (expected.num_pieces, found.num_pieces) == (1, 4)
    assert (expected.num_steps, expected.num_losses) == (found.num_steps, found.num_losses)
    assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-5)
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
