"""The server's knowledge of a simulation's test set: each node's share of it, and nothing where it has no images."""

from typing import Any

import pytest
import torch

from fl_app.data.images import ImageSet
from fl_app.data.sources import CommonTest
from fl_app.errors import DataError
from fl_app.node.images import load_local
from fl_app.options.node import NodeConfig
from tests.options import run_config


@pytest.mark.parametrize("tasks", ["classification", "diffusion"])
def test_the_server_counts_what_each_node_measures(tasks: str) -> None:
    config = run_config({"tasks": tasks, "data.limit": 60})
    known = CommonTest.of_run(config)
    for number in range(3):
        data = load_local(config, NodeConfig.from_flat({"partition-id": number, "num-partitions": 3}))
        assert known.counts(number, 3) == data.test.class_counts().tolist()


def test_all_shares_are_the_whole_set_and_divide_no_patient() -> None:
    labels, patients = torch.tensor([0, 1, 0, 1, 1, 0, 0]), torch.tensor([5, 5, 5, 8, 8, 9, 2])
    test = ImageSet(torch.zeros((7, 1, 8, 8), dtype=torch.uint8), labels, ("a", "b"), patients)
    known = CommonTest(lambda: test)
    assert [known.counts(number, 2) for number in range(2)] == [[1, 2], [3, 1]]


def test_a_test_set_that_cannot_be_read_is_unknown_and_is_not_asked_for_again() -> None:
    asked = []

    def read() -> Any:
        asked.append(1)
        raise DataError("no such folder")

    known = CommonTest(read)
    assert known.counts(0, 2) is None and known.counts(1, 2) is None and len(asked) == 1
