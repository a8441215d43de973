"""Random generators that depend only on (seed, site, round, purpose)."""

import hashlib
import json

import numpy as np
import torch


def seed_for(seed: int, *parts: str | int) -> int:
    """Hash a run's seed with names and numbers to 63 bits."""
    text = json.dumps([seed, *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(
    seed: int, site: str, round_number: int, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a new torch generator for one purpose at one site in one round."""
    return torch.Generator(device).manual_seed(seed_for(seed, site, round_number, purpose))


def numpy_generator_for(seed: int, *parts: str | int) -> np.random.Generator:
    """Return a new numpy generator for the given names and numbers."""
    return np.random.default_rng(seed_for(seed, *parts))
