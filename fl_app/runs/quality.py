"""diffusion/quality.json: how good the generated images of a run are; imports nothing heavy when it is read."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from fl_app.files import KEBAB, from_json, to_json, write_json
from fl_app.quality.figure import Figure
from fl_app.strategies.node_outcome import NodeOutcome

QUALITY = Path("diffusion", "quality.json")


@dataclass(frozen=True, config=KEBAB)
class QualityDocument:
    """The content of `diffusion/quality.json`.

    Attributes:
        round: after which the model was exported.
        seed: of the generated images.
        num_images: that were generated.
        images_per_class: of them, by class, as the sites' test images are.
        sampler: that drew them.
        num_steps: denoising steps.
        guidance_scale: 1 is none.
        neighbours: k of precision, recall, density and coverage.
        figures: see `quality.figures.Figure`.
        sites: for each network, and `usefulness`, the outcome of each site.
        bytes_down: sent to the sites.
        bytes_up: received from them.
        seconds: for all of it.
        problem: why nothing was measured; None if something was.
    """

    round: int
    seed: int
    num_images: int
    images_per_class: dict[str, int]
    sampler: str
    num_steps: int
    guidance_scale: float
    neighbours: int
    figures: tuple[Figure, ...] = ()
    sites: dict[str, dict[str, NodeOutcome]] | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    problem: str | None = None


def write_quality(folder: Path, document: QualityDocument) -> None:
    """Write the file into a run's folder."""
    write_json(folder / QUALITY, to_json(document))


def read_quality(folder: Path) -> QualityDocument | None:
    """Read the file of a run's folder; None if it is missing or damaged."""
    try:
        return from_json(QualityDocument, (folder / QUALITY).read_bytes())
    except OSError:
        return None


def quality_rows(folder: Path) -> list[dict[str, object]]:
    """Return the figures of the file as JSON takes them; none if it is missing or damaged."""
    found = read_quality(folder)
    return [to_json(one) for one in found.figures] if found else []


def describe_quality(folder: Path) -> list[str]:
    """Return lines on the generated images of a run, for people; none if they were not judged."""
    found = read_quality(folder)
    if found is None:
        is_there = (folder / QUALITY).exists()
        return [f"generated images: {QUALITY} is damaged, so their figures are not known"] if is_there else []
    if found.problem is not None:
        return [f"generated images: not judged, {found.problem}"]
    lines = [
        f"generated images, {found.num_images}, guidance {found.guidance_scale:g}, {found.sampler} with "
        f"{found.num_steps} steps:"
    ]
    whole = [one for one in found.figures if one.class_name is None]
    for features in dict.fromkeys(one.features for one in whole if one.features):
        shown = [one for one in whole if one.features == features]
        named = ", ".join(f"{one.wording} {_value(one)}" for one in shown if one.value is not None)
        num_real = max((one.num_real for one in shown), default=0)
        lines.append(f"  {features} (floor of real images in brackets; {num_real} real): {named or shown[0].reason}")
    resting: dict[str, list[str]] = {}
    for one in whole:
        if one.rests_on is not None:
            resting.setdefault(one.rests_on, []).append(f"{one.wording} ({one.features})")
    lines += [f"  quite other without {site}: {', '.join(names)}" for site, names in resting.items()]
    others = [one for one in whole if not one.features]
    lines += [f"  {one.wording}: {_share(one)}" for one in others]
    return lines


def _value(one: Figure) -> str:
    around = "" if one.floor_error is None else f" ± {one.floor_error:.2g}"
    floor = "" if one.floor is None else f" ({one.floor:.3g}{around})"
    error = "" if one.error is None else f" ± {one.error:.2g}"
    return f"{one.value:.3g}{error}{floor}"


def _share(one: Figure) -> str:
    if one.value is None:
        return f"not defined, {one.reason}"
    interval = "" if one.interval is None else f" [{one.interval[0]:.3f}, {one.interval[1]:.3f}]"
    number, kind = one.measured_on
    return f"{one.value:.3f}{interval} of {number} {kind}"
