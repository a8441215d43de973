from itertools import product

import torch

from fl_app.seeding import generator_for, numpy_generator_for, seed_for


def test_no_two_uses_share_a_seed() -> None:
    uses = list(product((0, 1), ("site-1", "site-11"), (1, 2), ("noise", "order")))
    assert len({seed_for(seed, site, number, use) for seed, site, number, use in uses}) == len(uses)


def test_names_and_numbers_are_not_glued_together() -> None:
    assert seed_for(0, "site-1", 11) != seed_for(0, "site-11", 1)


def test_two_nodes_never_draw_the_same_noise() -> None:
    drawn = [torch.randn(8, generator=generator_for(0, f"site-{k}", 1, "noise")) for k in range(20)]
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 20


def test_the_same_use_draws_the_same_numbers() -> None:
    first, second = (torch.randn(8, generator=generator_for(3, "a", 1, "noise")) for _ in range(2))
    assert torch.equal(first, second)
    assert numpy_generator_for(3, "a").random() == numpy_generator_for(3, "a").random()
