"""Python runs this first in a hospital that a test means to break: it sends NaN while a named file is there."""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _SpoilTraining(importlib.abc.MetaPathFinder):
    """Replaces `train_local` as soon as `fl_app.node.training` is imported, wherever Flower put the app's code."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "fl_app.node.training":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_spoil(module: ModuleType) -> None:
            execute(module)
            vars(module)["train_local"] = _spoiled(vars(module)["train_local"])

        vars(spec.loader)["exec_module"] = execute_and_spoil
        return spec


def _spoiled(train: Callable[..., Any]) -> Callable[..., Any]:
    def train_and_spoil(model: Any, *arguments: Any, **named: Any) -> Any:
        result = train(model, *arguments, **named)
        if Path(os.environ["FAULT_NAN"]).exists():
            for parameter in model.parameters():
                parameter.data.fill_(float("nan"))
        return result

    return train_and_spoil


if "FAULT_NAN" in os.environ:
    sys.meta_path.insert(0, _SpoilTraining())
