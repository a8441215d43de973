"""Replies wait on disk, one at a time in memory, and come back bit for bit."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fl_app.errors import RunFolderError
from fl_app.messages.records import Reply
from fl_app.strategies.waiting import WaitingReplies


def reply(site: str, size: int = 6, has_ema: bool = False) -> Reply:
    generator = np.random.default_rng(len(site))
    weights = {"w": generator.normal(size=(size, 2)).astype(np.float32), "steps": np.array(3)}
    return Reply(site, "diffusion", 1, 5.0, weights, node_ema=weights if has_ema else None, loss_sum=2.0)


def test_replies_come_back_as_they_were_in_the_order_of_the_names(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    for number, site in enumerate(("ccc", "a", "bb")):
        waiting.put(reply(site, has_ema=site == "bb"), float(number))
    assert sorted(waiting.norms()) == [0.0, 1.0, 2.0]
    found = list(waiting.take())
    assert [(one.site, norm) for one, norm in found] == [("a", 1.0), ("bb", 2.0), ("ccc", 0.0)]
    for one, _ in found:
        expected = reply(one.site, has_ema=one.site == "bb")
        assert all(np.array_equal(one.weights[key], value) for key, value in expected.weights.items())
        assert (one.node_ema is None) == (expected.node_ema is None) and one.loss_sum == 2.0
    assert list(tmp_path.iterdir()) == []


def test_only_one_reply_is_in_memory(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    size = reply("", 100_000).weights["w"].nbytes
    tracemalloc.start()
    for number in range(20):
        waiting.put(reply("x" * number, 100_000), 1.0)
    for one, _ in waiting.take():
        del one
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * size


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    WaitingReplies(str(tmp_path)).put(reply("a"), 1.0)
    WaitingReplies(str(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_is_named(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    waiting.close()
    with pytest.raises(RunFolderError, match=r"cannot be written to .*Free space there"):
        waiting.put(reply("a"), 1.0)
