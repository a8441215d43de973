"""How useful generated images are: train on them, test on real ones (Esteban et al. 2017)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.accumulation import accumulate_gradients, compute_in_pieces
from fl_app.classification.network import Classifier
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import Batch, ImageSet
from fl_app.data.loading import iterate, place, take
from fl_app.data.partition import stratified_choice
from fl_app.errors import FlAppError
from fl_app.optimizers import autocast, build_optimizer, set_step_size
from fl_app.quality.figure import TRAINED_ON
from fl_app.seeding import generator_for, numpy_generator_for, seed_for

NUM_STEPS = 500  # of each classifier; on digits the accuracy hardly grows after 300, and all take 1.5 seconds

_TEST_BATCH_SIZE = 256


def usefulness(
    task: ClassificationTask,
    real: ImageSet,
    generated: ImageSet,
    test: ImageSet,
    *,
    device: torch.device,
    seed: int,
    site: str,
    num_steps: int = NUM_STEPS,
) -> dict[str, NDArray[np.float64]]:
    """Train three small classifiers and count their right answers on real test images.

    All have the network, optimiser, augmentation and batch size of the run's classifier, the same initial weights, the
    same number of steps and step sizes along them. The first one sees generated images only; the second one as many
    real ones, with the classes' shares of all real ones, or all if there are fewer; the third one both of these.

    Args:
        task: the run's classification.
        real: training images of the site.
        generated: images with the labels that they were asked for.
        test: real images that neither the generator nor these classifiers were trained on.
        device: where to train.
        seed: of the run.
        site: of the node.
        num_steps: optimiser steps of each classifier.

    Returns:
        `synthetic`, `real` and `both`, each [2, K]: right answers and test images by class; they add up over sites.
        Zeros if a variant has no training images: no accuracy is defined then.

    Raises:
        FlAppError: a training diverged.
    """
    num_real = min(len(real), len(generated))
    chosen = stratified_choice(real.labels.numpy(), num_real, numpy_generator_for(seed, site, "usefulness", "real"))
    some = real.select(torch.from_numpy(chosen))
    both = _joined(some, generated) if num_real else some
    sums = {}
    for name, images in zip(TRAINED_ON, (generated, some, both), strict=True):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed_for(seed, "usefulness", "initial weights"))  # also of dropout
            network = task.build_model()
            if len(images):
                _train(network, task, images, device, seed, site, num_steps)
        sums[name] = _right_answers(network, test, device) if len(images) else np.zeros((2, len(test.class_names)))
    return sums


def _joined(a: ImageSet, b: ImageSet) -> ImageSet:
    return ImageSet(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]), a.class_names)


def _train(
    network: Classifier,
    task: ClassificationTask,
    images: ImageSet,
    device: torch.device,
    seed: int,
    site: str,
    num_steps: int,
) -> None:
    """Train a network in place."""
    options = task.options
    network.to(device).train()
    network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, options)
    order = generator_for(seed, site, 0, "usefulness, order")
    noise = generator_for(seed, site, 0, "usefulness, augmentation", device)
    placed = place(images, device)
    loss_sum, num_pieces = torch.zeros((), device=device), 1
    for step, indices in zip(range(num_steps), _endless(len(images), options.batch_size, order), strict=False):
        set_step_size(optimizer, options, step / num_steps)
        batch = task.draw(take(placed, indices, device), noise)

        def losses_of(part: slice, batch: Batch = batch) -> Tensor:
            with autocast(options, device):
                return task.losses(network, batch[part])

        step_sum, num_pieces = accumulate_gradients(losses_of, optimizer, len(batch), num_pieces)
        if options.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(network.parameters(), options.gradient_clip)
        optimizer.step()
        loss_sum += step_sum
    if not math.isfinite(float(loss_sum)):
        raise FlAppError("The training on generated or real images diverged. Lower 'classification.learning-rate'.")


def _endless(num_images: int, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Yield the positions of batches, epoch after epoch, each in an order of its own."""
    while True:
        yield from torch.split(torch.randperm(num_images, generator=order), batch_size)


@torch.no_grad()
def _right_answers(network: Classifier, test: ImageSet, device: torch.device) -> NDArray[np.float64]:
    """Count right answers and images by class: [2, K]."""
    network.eval()
    counts = np.zeros((2, len(test.class_names)))
    for batch in iterate(test, _TEST_BATCH_SIZE, device):

        def classes_of(part: slice, images: Tensor = batch.images) -> Tensor:
            return network(images[part]).argmax(dim=1)  # type: ignore[no-any-return]

        labels = batch.labels.cpu().numpy()
        is_right = compute_in_pieces(classes_of, len(batch)).numpy() == labels
        counts += [np.bincount(found, minlength=counts.shape[1]) for found in (labels[is_right], labels)]
    return counts
