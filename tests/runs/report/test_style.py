"""The colours of a report: every text can be read on every ground, in light, dark and print."""

import itertools
import re

import pytest

from fl_app.runs.report.style import STYLE

_TEXTS = ("ink", "soft", "link", "good", "warn", "bad", "going")
_LINES = ("s0", "s1", "s2", "s3", "s4", "s5", "bad")


def themes() -> dict[str, dict[str, str]]:
    """Return the colours of each theme, by name."""
    light, dark, paper = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = {name: dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6}|\d+ \d+ \d+);", text)) for name, text in
             (("light", light), ("dark", dark), ("print", paper))}  # fmt: skip
    return {name: {**found["light"], **colours} for name, colours in found.items()}


def channels(colour: str) -> tuple[float, ...]:
    if " " in colour:
        return tuple(int(part) / 255 for part in colour.split())
    digits = colour[1:] if len(colour) == 7 else "".join(2 * sign for sign in colour[1:])
    return tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert contrast(channels("#000"), channels("#ffffff")) == pytest.approx(21.0)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_have_a_contrast_of_four_and_a_half_and_lines_of_three(theme: str) -> None:
    colours = themes()[theme]
    for ground in ("bg", "card"):
        for name in _TEXTS:
            assert contrast(channels(colours[name]), channels(colours[ground])) >= 4.5, (name, ground)
        for name in _LINES:
            assert contrast(channels(colours[name]), channels(colours[ground])) >= 3.0, (name, ground)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_can_be_read_on_the_darkest_shade(theme: str) -> None:
    colours = themes()[theme]
    (most,) = re.findall(r"calc\(var\(--v\) \* (0?\.\d+)\)", STYLE)
    heat, ground = channels(colours["heat"]), channels(colours["bg"])
    shade = tuple(float(most) * a + (1 - float(most)) * b for a, b in zip(heat, ground, strict=True))
    assert contrast(channels(colours["ink"]), shade) >= 4.5


# Machado, Oliveira, Fernandes, IEEE TVCG 15, 2009, severity 1: linear RGB.
_BLINDNESS = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", sorted(_BLINDNESS))
def test_the_first_four_lines_differ_for_colour_blind_readers(theme: str, kind: str) -> None:
    colours = themes()[theme]
    seen = []
    for name in ("s0", "s1", "s2", "s3"):
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels(colours[name])
        ]
        seen.append([sum(a * b for a, b in zip(row, linear, strict=True)) for row in _BLINDNESS[kind]])
    for one, other in itertools.combinations(seen, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.04


def test_each_line_has_dashes_of_its_own() -> None:
    dashes = [re.search(rf"\.s{number} \{{[^}}]*?(stroke-dasharray: [\d ]+)?; \}}", STYLE) for number in range(6)]
    found = [one.group(1) if one else "?" for one in dashes]
    assert len(set(found)) == 6 and found[0] is None
