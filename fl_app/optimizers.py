"""The optimiser of a training, its step size and its precision, as the options say."""

import math

import torch
from torch import nn

from fl_app.options.training import TrainingOptions


def build_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Build the optimiser of a model's trainable weights."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if options.optimizer == "adam":
        return torch.optim.Adam(parameters, options.learning_rate, fused=True)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, options.learning_rate, fused=True)
    return torch.optim.SGD(parameters, options.learning_rate, momentum=options.momentum, fused=True)


def set_step_size(optimizer: torch.optim.Optimizer, options: TrainingOptions, share_done: float) -> None:
    """Set the step size after a share of the training, in [0, 1)."""
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * schedule(options.lr_schedule, share_done)


def schedule(name: str, share_done: float) -> float:
    """Return the factor of the learning rate after a share of the training: 1 at 0; 0 at 1 unless constant."""
    if name == "constant":
        return 1.0
    if name == "linear":
        return 1.0 - share_done
    return 0.5 * (1.0 + math.cos(math.pi * share_done))


def autocast(options: TrainingOptions, device: torch.device) -> torch.autocast:
    """Return the context in which losses are computed: bfloat16 if the options or the device want it."""
    is_bfloat16 = options.precision == "bfloat16"
    if options.precision == "auto":
        is_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)
