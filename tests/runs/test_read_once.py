"""Each file of a run is read once, however many figures of it are shown."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_app.grids.reading import read_run
from fl_app.runs.report.reading import read_material
from tests.runs.report.made_up import make_run, write_audit


@pytest.mark.parametrize("read", [lambda run: read_material(run, 0.0), read_run])
def test_no_file_is_read_twice(read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audit(run := make_run(tmp_path / "run"))
    times: Counter[str] = Counter()
    plain = Path.open

    def counting(path: Path, *arguments: Any, **named: Any) -> Any:
        times[path.relative_to(run).as_posix()] += 1
        return plain(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", counting)
    read(run)
    documents = {"run.json", "status.json", "metrics.jsonl", "classification/comparison.csv", "diffusion/quality.json"}
    assert documents <= set(times) and set(times.values()) == {1}, times
