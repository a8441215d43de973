"""Processes side by side: how many, in which order, what a failed one costs, and how all are stopped."""

import json
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from fl_app.options.app_files import own_app
from fl_app.simulation import repeat
from fl_app.simulation.cells import plan_grid
from fl_app.simulation.choices import parse_settings
from fl_app.simulation.repeat import Ended, Job, Running, choose_at_once, job_of, run_jobs


def job(folder: Path, name: str, code: str) -> Job:
    return Job(
        name, [sys.executable, "-I", "-S", "-c", code], folder / name, folder / f"{name}.log", {"FL_APP_X": name}
    )


def unseen(running: Sequence[Running], ended: Sequence[Ended]) -> None:
    """Show nothing."""


def test_a_job_that_fails_is_told_with_its_last_error_and_stops_no_other(tmp_path: Path) -> None:
    code = "print('Error: no images.'); print('bye'); raise SystemExit(2)"
    ended = run_jobs([job(tmp_path, "bad", code), job(tmp_path, "good", "")], 1, unseen)
    assert [(one.job.name, one.exit_status) for one in ended] == [("bad", 2), ("good", 0)]
    assert ended[0].reason == f"no images. Its output: {tmp_path / 'bad.log'}" and ended[1].reason == ""


def test_the_reason_in_the_run_folder_says_more_than_the_output(tmp_path: Path) -> None:
    status = json.dumps({"state": "failed", "reason": "nothing was learned"})
    (tmp_path / "a").mkdir()
    code = f"open({str(tmp_path / 'a/status.json')!r}, 'w').write({status!r}); raise SystemExit(1)"
    ended = run_jobs([job(tmp_path, "a", code)], 1, unseen)
    assert ended[0].reason.startswith("nothing was learned. ")


def test_never_more_than_the_wanted_number_runs_at_once(tmp_path: Path) -> None:
    most: list[int] = []
    jobs = [job(tmp_path, str(number), "import time; time.sleep(0.3)") for number in range(5)]
    ended = run_jobs(jobs, 2, lambda running, _: most.append(len(running)))
    assert max(most) == 2 and sorted(one.job.name for one in ended) == list("01234")


def test_a_job_gets_its_variables_and_its_log_is_kept(tmp_path: Path) -> None:
    run_jobs([job(tmp_path, "a", "import os; print(os.environ['FL_APP_X'])")], 1, unseen)
    assert (tmp_path / "a.log").read_text() == "a\n"


def test_whatever_ends_the_call_ends_all_processes_and_lets_them_clean_up(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(tmp_path)!r} + '/cleaned', 'a').write('x'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(60)"
    )
    started: list[psutil.Process] = []

    def interrupt(running: Sequence[Running], _: Sequence[Ended]) -> None:
        if len(running) == 2 and all("ready" in one.job.log.read_text() for one in running):
            started.extend(psutil.Process(one.process.pid) for one in running)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(tmp_path, name, code) for name in "abc"], 2, interrupt)
    assert (tmp_path / "cleaned").read_text() == "xx" and not any(one.is_running() for one in started)
    assert not (tmp_path / "c.log").exists()


def test_a_process_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeat, "_STOP_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"

    def interrupt(running: Sequence[Running], _: Sequence[Ended]) -> None:
        if running and running[0].job.log.read_text():
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(tmp_path, "a", code)], 1, interrupt)
    assert time.monotonic() - begun < 30


def test_a_job_takes_signals_in_a_session_of_its_own(tmp_path: Path) -> None:
    run_jobs([job(tmp_path, "a", "import os; print(os.getsid(0) == os.getpid())")], 1, unseen)
    assert (tmp_path / "a.log").read_text() == "True\n"


@pytest.mark.parametrize(
    ("cores", "nodes", "gigabytes", "expected"),
    [(2, 5, 20, 1), (16, 5, 100, 3), (16, 16, 100, 1), (64, 4, 8, 1), (64, 4, 9, 2), (1, 10, 1, 1), (16, 3, 1000, 5)],
)
def test_as_many_runs_at_once_as_cores_and_memory_carry(
    cores: int, nodes: int, gigabytes: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    memory = type("Memory", (), {"available": gigabytes * 2**30})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert choose_at_once(nodes, 0.0) == expected


def test_runs_on_a_gpu_go_one_by_one_unless_more_are_wanted() -> None:
    assert choose_at_once(2, 0.2) == 1 and choose_at_once(2, 0.2, 3) == 3


def test_the_command_of_a_cell_has_all_its_options(tmp_path: Path) -> None:
    varied = ['diffusion.block-channels=["8,8","16,32"]', "partition.alpha=0.1,1e-05"]
    grid = plan_grid(own_app(), "demo", ['export.licence=a "b" = c'], varied, [3], 2, tmp_path)
    for one in grid.cells:
        command = list(job_of(grid, one, 0.0).command)
        assert command[3:6] == ["run", "--nodes", "2"] and command[-2] == "--set"
        settings = [command[at + 1] for at, word in enumerate(command) if word == "--set"]
        assert parse_settings(settings, {}) == dict(one.overrides)
        assert all(tomllib.loads(f"value = {text.partition('=')[2]}") for text in settings)


def test_the_process_of_a_cell_is_the_command_line_itself() -> None:
    command = [sys.executable, "-c", repeat._RUN, "run", "--nodes", "0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and "--nodes must be a whole number of at least 1, got 0." in answer.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
def test_the_runs_end_with_a_grid_that_is_killed(tmp_path: Path) -> None:
    child = repeat._RUN.replace("from fl_app.cli import main\nmain()", "print(os.getpid(), flush=True); signal.pause()")
    assert child != repeat._RUN
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = psutil.Process(int(process.stdout.readline()))
        assert started.is_running()
        process.kill()
    psutil.wait_procs([started], timeout=30)
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE


def test_jobs_can_be_run_from_another_thread(tmp_path: Path) -> None:
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.extend(run_jobs([job(tmp_path, "a", "")], 1, unseen)))
    thread.start()
    thread.join(60)
    assert [one.exit_status for one in found] == [0]
