"""A headless Chromium that opens a page, and what it says of it."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
AXE = os.environ.get("FL_APP_AXE")  # axe.min.js of the npm package axe-core

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: `tools/browser.sh` installs it")
needs_axe = pytest.mark.skipif(
    PROGRAM is None or not AXE, reason="no axe-core: `tools/browser.sh` gets it, and FL_APP_AXE names its axe.min.js"
)

Medium = Literal["light", "dark", "print"]

_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_SECONDS = 60.0


def open_page(page: Path, work: Path, flags: Sequence[str] = ()) -> str:
    """Open a page, and return stdout and stderr; `work`: an empty folder for the browser's own files."""
    assert PROGRAM is not None
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command = [PROGRAM, *fixed, f"--user-data-dir={work / 'profile'}", *flags, page.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout + answer.stderr


def console_of(page: Path, work: Path) -> list[str]:
    """Return what a page writes to the console, errors among it."""
    said = open_page(page, work, ["--enable-logging=stderr", "--dump-dom"])
    return [line for line in said.splitlines() if ":CONSOLE" in line]


def requests_of(page: Path, work: Path) -> list[str]:
    """Return the addresses that a page asks for, other than its own file; none of them is reached."""
    log = work / "net.json"
    flags = [f"--log-net-log={log}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    open_page(page, work, flags)
    found = json.loads(log.read_text(encoding="utf-8", errors="replace"))
    params: list[dict[str, Any]] = [one.get("params", {}) for one in found["events"]]
    asked = [one for one in params if str(one.get("url", "")).startswith(("http:", "https:", "ws:", "wss:", "ftp:"))]
    return [one["url"] for one in asked if one.get("initiator", "not an origin") != "not an origin"]


def ask_page(page: Path, work: Path, width: int, question: str, *, medium: Medium = "light", library: str = "") -> Any:
    """Return what a script finds in a copy of a page, whose policy would forbid it, in a frame of some width.

    Args:
        page: the page.
        work: an empty folder.
        width: of the frame, in CSS pixels: a window of a headless browser has a least width.
        question: the body of an asynchronous function that returns JSON values.
        medium: the colours that the reader prefers, or the style of the printed page.
        library: a script that is loaded before.
    """
    text = _POLICY.sub("", page.read_text(encoding="utf-8"))
    if medium == "print":
        text = text.replace("@media print", "@media all")
    script = (
        f"(async () => {{ {question} }})().then(found => parent.answer(found), error => parent.answer(String(error)))"
    )
    text = text.replace("</body>", f"<script>{library}</script><script>{script}</script></body>")
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    answer = (
        '<script>function answer(found) { const here = document.createElement("pre"); here.id = "answer";'
        "here.textContent = JSON.stringify(found); document.body.append(here); }</script>"
    )
    copy = work / "copy.html"
    copy.write_text(
        f'<!doctype html><meta charset="utf-8"><body style="margin:0">{answer}{frame}</body>', encoding="utf-8"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if medium == 'dark' else 1}"
    said = open_page(copy, work, [scheme, "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom"])
    found = re.search(r'<pre id="answer">(.*?)</pre>', said, re.DOTALL)
    assert found, said[-2000:]
    return json.loads(html.unescape(found[1]))
