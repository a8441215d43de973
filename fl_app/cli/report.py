"""What `fl-app doctor` prints: who was examined and when, what was found, the verdict, and what to do next."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import typer

from fl_app.cli.words import Voice

if TYPE_CHECKING:
    from fl_app.doctor.finding import Finding, Verdict

_COLOURS = {"ready": "green", "warning": "yellow", "not ready": "red", "not checked": "bright_black"}
_SUMMARY = {"ready": "Ready", "warning": "Ready, with warnings", "not ready": "Not ready"}


@dataclass
class Report:
    """Prints findings as they come, and in the end what follows from them.

    What is ready is folded into one line, unless all of it is asked for.

    Attributes:
        voice: prints; if quiet, only what is not ready.
        site: name of the hospital.
        study: name of the study; None if none was given.
        superlink: HOST:PORT; None if it was not given.
        shows_all: print a line for each check that is ready, too.
        findings: so far.
    """

    voice: Voice
    site: str
    study: str | None
    superlink: str | None
    shows_all: bool
    findings: list["Finding"] = field(default_factory=list)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))

    def begin(self) -> None:
        """Name site, date, version and study."""
        study = (
            f"study {self.study}"
            if self.study
            else "no study given: judged by the folder's own classes, at 32 x 32 pixels"
        )
        self._say(f"fl-app {version('fl-app')}, site {self.site}, {self.date}, {study}")

    def add(self, finding: "Finding") -> None:
        """Take a finding, and print it if it is not folded."""
        self.findings.append(finding)
        line = _line(finding.verdict, f"{finding.name}: {finding.text}")
        if self.voice.quiet and finding.verdict == "not ready":
            typer.echo(line, err=True)
        elif self.shows_all or finding.verdict != "ready":
            self._say(line)

    def end(self, verdict: "Verdict") -> None:
        """Print the folded checks, the verdict, and what to do next; or all of it as JSON."""
        ready = self._names("ready")
        if ready and not self.shows_all:
            self._say(_line("ready", f"{', '.join(ready)}. --all tells what was found."))
        concerned = self._names(verdict) if verdict != "ready" else []
        which = f": {', '.join(concerned)}" if concerned else ""
        self._say(f"{_SUMMARY[verdict]}{which}.")
        self._say(f"Next: {self._next(verdict)}")
        self.voice.answer(
            {
                "version": version("fl-app"),
                "site": self.site,
                "date": self.date,
                "study": self.study,
                "verdict": verdict,
                "next": self._next(verdict),
                "checks": [vars(one) for one in self.findings],
            }
        )

    def _next(self, verdict: "Verdict") -> str:
        if verdict == "not ready":
            return "fix what is not ready and run this again; --names names the files, on this screen alone."
        if self.study is None:
            return "run this again with the study's file, which the coordinator sends."
        if self.superlink is None:
            return "run this again with --superlink and --root-certificates, to check the way to the coordinator."
        return (
            "send this to the coordinator, and start the node with the same options: "
            f"fl-app supernode --superlink {self.superlink} --root-certificates … --auth-supernode-private-key … "
            "--node-config …"
        )

    def _names(self, verdict: str) -> Sequence[str]:
        return [one.name for one in self.findings if one.verdict == verdict]

    def _say(self, line: str) -> None:
        if not self.voice.as_json:
            self.voice.say(line)


def _line(verdict: "Verdict", text: str) -> str:
    return f"{typer.style(f'{verdict:<11}', fg=_COLOURS[verdict])}  {text}"
