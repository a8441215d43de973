"""`fl-app example-images` as it is typed."""

from pathlib import Path

from tests.cli.test_app import run_fl_app


def test_the_command_writes_a_share_once_and_refuses_one_that_does_not_exist(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    first = run_fl_app("example-images", str(folder), "--share", "2", "--of", "3")
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{folder}: {len(list(folder.glob('*/*.png')))} images written\n"
    again = run_fl_app("example-images", str(folder), "--share", "2", "--of", "3")
    assert again.stdout == f"{folder}: has all classes already\n"
    assert run_fl_app("example-images", str(folder), "--share", "4", "--of", "3").returncode == 2
