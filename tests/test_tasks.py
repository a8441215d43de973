"""What a node's process costs before it does anything: Flower starts one for each message."""

import subprocess
import sys
from pathlib import Path

_HEAVY = ("diffusers", "torchvision", "matplotlib", "sklearn", "scipy.stats", "datasets", "medmnist", "torch._dynamo")


def test_a_node_imports_what_its_task_needs_and_not_before() -> None:
    program = f"import sys, client_app; print([name for name in {_HEAVY} if name in sys.modules])"
    root = Path(__file__).parents[1]
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=root).strip() == "[]"
