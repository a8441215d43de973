"""The command `fl-app bundle-logs`: what support needs to see of a run, without anything of a patient."""

import zipfile
from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import Quiet, Runs, Voice, check_file
from fl_app.errors import OptionError
from fl_app.runs.log_archive import collect, private_names, read_log, words_of
from fl_app.runs.overview import find_run, runs_folder
from fl_app.runs.scrubbing import scrub


def bundle_logs(
    run: Annotated[Path, typer.Argument(help="A run folder, or its name.")],
    out: Annotated[Path, typer.Option(help="The zip file to write; it must not exist yet.")],
    runs: Runs = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option("--log", help="Another log to pack, scrubbed as well: of a node, of `flwr log`; may be repeated."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Pack a run's records for support, scrubbed: no images, labels, names of files, paths, keys or weights."""
    folder = find_run(run, runs_folder(runs))
    if out.exists():
        raise OptionError(f"--out must name a file that does not exist yet, got {out}.")
    check_file(out)
    from fl_app.files import replacing

    words = words_of(folder, private_names())
    members = collect(folder, words)
    for number, log in enumerate(logs or [], start=1):
        if not log.is_file():
            raise OptionError(f"--log must name a file, got {log}.")
        members[f"log-{number}.txt"] = scrub(read_log(log), words.removed, words.kept)
    with replacing(out.resolve()) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in members.items():
            bundle.writestr(name, text)
    voice = Voice(quiet)
    voice.say(f"{', '.join(members)}: {out.resolve()}")
    voice.say("Paths, names of files, labels and keys were taken out. Look it through before you send it.")
