"""What the task `diffusion` measures and draws."""

from typing import Any

import pytest
import torch
from torch import nn

from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.diffusion import process
from fl_app.diffusion import task as diffusion
from fl_app.diffusion.process import NUM_BANDS, NoisyBatch, band_of
from fl_app.diffusion.task import DiffusionTask
from tests.options import run_config

CPU = torch.device("cpu")
INFO = DatasetInfo(("a", "b"), 1, 8)


def task(**changes: Any) -> DiffusionTask:
    changed = {f"diffusion.{name.replace('_', '-')}": value for name, value in changes.items()}
    config = run_config({"diffusion.block-channels": "8,8", "diffusion.mid-attention": False, **changed})
    return DiffusionTask.of_run(config.pass_named("diffusion"), config, INFO)


def sorted_by_class(count: int) -> ImageSet:
    return ImageSet(torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.arange(count) * 2 // count, ("a", "b"))


@pytest.mark.parametrize("count", [16, 128, 300])
def test_images_that_lie_sorted_by_class_meet_every_noise_level(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.zeros(2, NUM_BANDS)

    def note(unet: nn.Module, batch: NoisyBatch, *rest: Any) -> torch.Tensor:
        table.index_put_((batch.labels, band_of(batch.noise.timesteps, 1000)), torch.ones(len(batch)), accumulate=True)
        return process.denoising_losses(unet, batch, *rest)

    monkeypatch.setattr(diffusion, "denoising_losses", note)
    task().measure(task().build_model(), sorted_by_class(count), CPU, torch.Generator().manual_seed(0))
    shares = table / table.sum(dim=1, keepdim=True)
    assert table.sum() >= count
    assert shares.min() > 0.05 and shares.max() < 0.6  # in the order of the files 0 and 1


@pytest.mark.parametrize("holds", [1, 3, 10])
def test_images_measured_in_pieces_for_want_of_memory_are_measured_alike(
    holds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, images = task().build_model(), sorted_by_class(40)
    whole = task().measure(model, images, CPU, torch.Generator().manual_seed(0))

    def short_of_memory(unet: nn.Module, batch: NoisyBatch, *rest: Any) -> torch.Tensor:
        if len(batch) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return process.denoising_losses(unet, batch, *rest)

    monkeypatch.setattr(diffusion, "denoising_losses", short_of_memory)
    found = task().measure(model, images, CPU, torch.Generator().manual_seed(0))
    assert (found["loss-count"] == whole["loss-count"]).all()
    assert found["loss-sum"] == pytest.approx(whole["loss-sum"], rel=1e-6)


def test_held_out_images_are_measured_by_the_error_in_eps_whatever_is_trained_on() -> None:
    torch.manual_seed(0)
    model = task().build_model()
    measured = [
        task(loss_weight=weight).measure(model, sorted_by_class(40), CPU, torch.Generator().manual_seed(0))
        for weight in ("eps", "v")
    ]
    assert (measured[0]["loss-sum"] == measured[1]["loss-sum"]).all()


def test_flips_mirror_about_half_of_the_images_that_are_trained_on() -> None:
    images = torch.linspace(-1, 1, 8).expand(200, 1, 8, 8)
    drawn = task(augment="flip").draw(
        Batch(images, torch.zeros(200, dtype=torch.int64)), torch.Generator().manual_seed(0)
    )
    is_flipped = drawn.images[:, 0, 0, 0] > 0
    assert 70 < int(is_flipped.sum()) < 130
    assert torch.equal(drawn.images[is_flipped], images[is_flipped].flip(-1))


def test_the_network_drops_activations_in_training_only() -> None:
    net = task(dropout=0.5).build_model()
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([1, 500]), torch.tensor([0, 1])
    with torch.no_grad():
        net.train()
        assert not torch.equal(net(x, t, class_labels=labels).sample, net(x, t, class_labels=labels).sample)
        net.eval()
        assert torch.equal(net(x, t, class_labels=labels).sample, net(x, t, class_labels=labels).sample)
