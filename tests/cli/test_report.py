import json
import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_app.api.run import open_run
from fl_app.cli.app import app
from fl_app.errors import OptionError, UnknownRunError
from tests.runs.report.made_up import make_run


def report(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_writes_the_report_of_the_newest_run_and_says_where(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert str(run / "report.html") in report("--runs", str(tmp_path))
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_it_is_in_python_too(tmp_path: Path) -> None:
    run = open_run(make_run(tmp_path / "run"))
    assert run.report() == run.folder / "report.html" and run.report(tmp_path / "b.html") == tmp_path / "b.html"


def test_another_file_is_written_if_named_and_json_says_which(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    found = json.loads(report(str(run), "--out", str(tmp_path / "a.html"), "--json", "--quiet"))
    assert found == {"run": str(run), "report": str(tmp_path / "a.html")}
    assert (tmp_path / "a.html").is_file() and not (run / "report.html").exists()


def test_open_asks_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def remember(uri: str) -> bool:
        asked.append(uri)
        return True

    monkeypatch.setattr(webbrowser, "open", remember)
    run = make_run(tmp_path / "run")
    report(str(run), "--open")
    assert asked == [(run / "report.html").as_uri()]


def test_without_a_browser_or_a_run_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda uri: False)
    run = make_run(tmp_path / "run")
    with pytest.raises(OptionError, match="found no browser"):
        report(str(run), "--open")
    with pytest.raises(UnknownRunError, match="No run 'nothing'"):
        report("nothing", "--runs", str(tmp_path))
    with pytest.raises(OptionError, match="--out must name a file"):
        report(str(run), "--out", str(tmp_path))
