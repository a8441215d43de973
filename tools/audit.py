"""What is installed, as a CycloneDX SBOM, and which of it has known vulnerabilities: `make audit`.

Exit status: 0, every package was looked up and none has a known vulnerability; 1, some have; 2, the SBOM could not be
written; 3, some packages, or all of them, could not be looked up. The SBOM is written in all cases but 2.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SERVICES = ("pypi", "osv")  # databases that pip-audit knows, in the order in which they are asked


@dataclass(frozen=True)
class Audit:
    """What a database of vulnerabilities says.

    Attributes:
        service: the database.
        checked: packages that it knows.
        unknown: packages that it does not know; nothing is said of them.
        vulnerable: identifiers of vulnerabilities, by `<package> <version>`.
    """

    service: str
    checked: tuple[str, ...]
    unknown: tuple[str, ...]
    vulnerable: dict[str, tuple[str, ...]]


def read_report(service: str, text: str) -> Audit | None:
    """Return what pip-audit's JSON says; None if it is none, or if no package could be looked up.

    pip-audit ends with status 0 also if it could look up nothing at all.
    """
    try:
        found = json.loads(text)["dependencies"]
        checked = tuple(one["name"] for one in found if "skip_reason" not in one)
        editable = [one["name"] for one in found if "editable" in one.get("skip_reason", "")]  # this checkout
        unknown = tuple(one["name"] for one in found if "skip_reason" in one and one["name"] not in editable)
        vulnerable = {
            f"{one['name']} {one['version']}": tuple(each["id"] for each in one["vulns"])
            for one in found
            if one.get("vulns")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Audit(service, checked, unknown, vulnerable) if checked else None


def look_up(pip_audit: Path, packages: Path) -> tuple[Audit | None, list[str]]:
    """Ask the databases in turn until one answers.

    Args:
        pip_audit: the program.
        packages: the folder `site-packages` to look at.

    Returns:
        The answer, None if there is none; and for each database without one the reason.
    """
    reasons: list[str] = []
    for service in _SERVICES:
        command: list[str | Path] = [
            pip_audit,
            "--path",
            packages,
            "--vulnerability-service",
            service,
            "--skip-editable",
        ]
        done = subprocess.run(
            [*command, "--format", "json", "--desc", "off", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = read_report(service, done.stdout)
        if found is not None:
            return found, reasons
        last = done.stderr.strip().splitlines()[-1:] if done.returncode and not done.stdout.strip() else []
        reasons.append(f"{service}: {last[0] if last else 'it answers, but knows no package'}")
    return None, reasons


def write_sbom(cyclonedx: Path, python: Path, pyproject: Path, out: Path) -> str | None:
    """Write the SBOM of an environment; return an error text, None if all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        cyclonedx,
        "environment",
        python,
        "--pyproject",
        pyproject,
        "--of",
        "JSON",
        "--output-reproducible",
    ]
    done = subprocess.run([*command, "-o", out], capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else None


def report(found: Audit | None, reasons: Sequence[str]) -> tuple[str, int]:
    """Return the text that says what was found, and the exit status."""
    if found is None:
        why = "".join(f"\n  {reason}" for reason in reasons)
        return f"NOT CHECKED for vulnerabilities: no database could be asked.{why}", 3
    asked = f"{len(found.checked)} packages looked up ({found.service})"
    unknown = f"\nNOT CHECKED, not in the database: {', '.join(found.unknown)}" if found.unknown else ""
    if found.vulnerable:
        lines = "".join(f"\n  {name}: {', '.join(ids)}" for name, ids in found.vulnerable.items())
        return f"{asked}, {len(found.vulnerable)} with known vulnerabilities:{lines}{unknown}", 1
    return f"{asked}, none with a known vulnerability.{unknown}", 3 if found.unknown else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the SBOM, ask for vulnerabilities, say what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path, help="the virtual environment to look at")
    parser.add_argument("--tools", type=Path, required=True, help="folder of the programs pip-audit and cyclonedx-py")
    parser.add_argument("--out", type=Path, required=True, help="the SBOM, a JSON file")
    options = parser.parse_args(arguments)
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    error = write_sbom(options.tools / "cyclonedx-py", options.environment / "bin/python", pyproject, options.out)
    if error is not None:
        print(f"The SBOM could not be written: {error}", file=sys.stderr)
        return 2
    num_components = len(json.loads(options.out.read_text(encoding="utf-8")).get("components", []))
    print(f"SBOM of {num_components} packages: {options.out}")
    packages = next(options.environment.glob("lib/python3*/site-packages"))
    text, status = report(*look_up(options.tools / "pip-audit", packages))
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
