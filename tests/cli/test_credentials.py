"""`fl-app certificates` and `fl-app keys` as they are typed."""

from pathlib import Path

from tests.cli.test_app import run_fl_app


def test_both_commands_say_who_gets_which_file(tmp_path: Path) -> None:
    made = run_fl_app("certificates", "--host", "localhost", "--host", "127.0.0.1", "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert f"{tmp_path}/ca.crt      give it to every hospital; SHA-256 " in made.stdout
    assert "localhost, 127.0.0.1; valid until 20" in made.stdout
    pair = run_fl_app("keys", "north", "--out", str(tmp_path))
    assert pair.returncode == 0, pair.stderr
    assert f"{tmp_path}/north.pub  goes to the coordinator" in pair.stdout
    again = run_fl_app("keys", "north", "--out", str(tmp_path))
    assert again.returncode == 1 and "exists already" in again.stderr
