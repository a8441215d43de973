"""Model cards: what an exported model is, what it was trained and measured on, and what it is not for.

The card of a model is README.md in its folder, since Hugging Face and people read that file, and it travels with the
model. MODEL_CARD.md beside the folder has the same text. No card names a site unless the run's options say so.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fl_app.files import CARD, LICENCE_NOT_STATED, MANIFEST, recover_folder, replace_folder, write_manifest, write_text
from fl_app.metrics.audited import Copies, Membership
from fl_app.quality.figure import CLASSIFIED, WORDING, Figure
from fl_app.runs.audit import AUDIT, QUARANTINED, quarantine_of, use_of_quarantined
from fl_app.runs.exchanges import ExchangeDocument
from fl_app.runs.report.charts import number
from fl_app.runs.report.reading import Material, read_material
from fl_app.runs.report.verdict import shipped_row
from fl_app.runs.run_json import describe_split

log = logging.getLogger(__name__)

MODEL_CARD = "MODEL_CARD.md"

_EXPORTS = ("model", QUARANTINED)
_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
_FEW = 30  # training images of a class
_KINDS = {
    "diffusion": ("Diffusion model", "diffusers", "unconditional-image-generation"),
    "classification": ("Classifier", "pytorch", "image-classification"),
}
_USES = {
    "diffusion": "`fl-app sample <this folder>` draws images of its classes; diffusers opens it, too.",
    "classification": "`fl-app predict <this folder> images/` names the class of images.",
}
_LIMITS = {
    "diffusion": (
        "Generated images are no evidence of what a disease looks like.",
        "A model may have learned single training images by heart: see the audit. It was trained without differential "
        "privacy.",
    ),
    "classification": (
        "It is no medical device. A class that it names is no diagnosis.",
        "Its prototypes are sums over training images, and were made without differential privacy.",
    ),
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$&~!])")


def write_cards(folder: Path) -> None:
    """Write the card of each exported model of a run; an error is logged and ends nothing: the models are there."""
    try:
        material = read_material(folder, time.time())
        for model in sorted(path for name in _EXPORTS for path in folder.glob(f"*/{name}")):
            text = describe_model(material, model.parent.name)
            write_text(model.parent / MODEL_CARD, text)
            _replace_card(model, text)
    except Exception as error:  # a card is never worth a run
        log.warning("A model's card could not be written: %s: %s", type(error).__name__, error)


def describe_model(material: Material, name: str) -> str:
    """Return the card of a model, Markdown with a YAML header as Hugging Face reads it.

    Args:
        material: of the run.
        name: of the pass, such as `classification` or `classification-fedprox`.
    """
    task = name.partition("-")[0] if name.partition("-")[0] in _KINDS else name
    what = _KINDS.get(task, ("Model", "pytorch", ""))[0]
    options = material.document.options if material.document else {}
    licence = str(options.get("export.licence") or "")
    exchange = material.last_exchange(name)
    lines = [*_header(material, task, licence, exchange), "", f"# {what} trained with fl-app", ""]
    reason = quarantine_of(material.folder / name / QUARANTINED)
    if reason is not None:
        why = _unnamed(material, reason) or "it knows its training images, or repeats them"
        lines += [f"**Quarantined.** The audit found: {why}. Do not pass this model on.", ""]
    use = _USES.get(task, "Its plug-in's code opens it.")
    lines += [
        f"Licence: {plain(licence) or LICENCE_NOT_STATED}",
        "",
        use if reason is None else use_of_quarantined(use),
        "",
    ]
    lines += ["## Training", "", *_training(material, name), ""]
    lines += ["## Data", "", *_data(material), ""]
    lines += ["## Figures", "", *_figures(material, task, exchange), ""]
    if task == "diffusion":
        lines += ["## Audit", "", *_audit(material), ""]
    lines += ["## Limits of use", "", *(f"- {one}" for one in _limits(material, task, exchange)), ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Return a text in which Markdown finds nothing to format, on one line."""
    return _SPECIAL.sub(r"\\\1", "".join(sign if sign.isprintable() else " " for sign in text))


def _header(material: Material, task: str, licence: str, exchange: ExchangeDocument | None) -> Iterator[str]:
    """Return the YAML header; every text in it is a JSON string, which YAML reads as it is."""
    _, library, pipeline = _KINDS.get(task, ("Model", "pytorch", ""))
    known = licence.strip().lower().replace(" ", "-")
    yield "---"
    if not licence:
        yield "license: unknown"
    elif known in _LICENCES:
        yield f"license: {known}"
    else:
        yield from ("license: other", f"license_name: {_yaml(licence)}")
    yield f"library_name: {library}"
    if pipeline:
        yield f"pipeline_tag: {pipeline}"
    yield "tags: [federated-learning, flower, fl-app]"
    metrics = _metrics(material, task, exchange)
    if metrics:
        source = _yaml(_source(material))
        yield from ("model-index:", f"- name: {_yaml(material.folder.name)}", "  results:")
        yield f"  - task: {{type: {pipeline}}}"
        yield f"    dataset: {{name: {source}, type: {source}, split: test}}"
        yield f"    metrics: [{', '.join(metrics)}]"
    yield "---"


def _metrics(material: Material, task: str, exchange: ExchangeDocument | None) -> list[str]:
    """Return the figures on test images as YAML."""
    found: list[tuple[str, str, float | None]] = []
    if task == "diffusion":
        whole = [one for one in (material.quality.figures if material.quality else ()) if one.class_name is None]
        found = [(one.name, f"{one.wording}{f' ({one.features})' * bool(one.features)}", one.value) for one in whole]
    elif (row := shipped_row(exchange) if exchange else None) is not None and row.part == "test":
        found = [(key, WORDING[key], row.figures.get(key)) for key in ("accuracy", "auc")]
    return [
        f"{{type: {key}, name: {_yaml(name)}, value: {value:.4f}}}" for key, name, value in found if value is not None
    ]


def _training(material: Material, name: str) -> Iterator[str]:
    options = material.document.options if material.document else {}
    section = name.partition("-")[0]
    rounds = [one for one in material.rounds if one.task == name]
    sites = {site for one in rounds for site, node in one.nodes.items() if node.outcome == "contributed"}
    if rounds:
        by = options.get(f"{section}.strategy", "averaging")
        yield f"- {len(rounds)} rounds of {plain(str(by))} ({plain(name)}); {len(sites)} sites contributed."
        failed = sum(one.outcome == "failed" for one in rounds)
        yield from [f"- {failed} of these rounds failed."] if failed else []
    if options.get("export.site-names") is True and sites:
        yield f"- Sites: {', '.join(map(plain, sorted(sites)))}."
    for key in ("network", "epochs", "optimizer", "learning-rate", "batch-size", "augment"):
        if options.get(f"{section}.{key}") not in (None, ""):
            yield f"- {key}: {plain(str(options[f'{section}.{key}']))}"
    if material.document:
        yield f"- Versions: {', '.join(f'{key} {plain(value)}' for key, value in material.document.versions.items())}"
    yield f"- Run: {plain(material.folder.name)}, seed {material.document.seed if material.document else 'not known'}"


def _data(material: Material) -> Iterator[str]:
    """Return a table of the images of each class over all sites: how they lie on the sites stays with the run."""
    yield f"Source: {plain(_source(material))}. {len(material.overview.images)} sites, which keep their images."
    if material.document and _source(material) not in ("folder", "not known"):
        yield f"It was shared out to simulated sites: {plain(describe_split(material.document.options))}."
    yield from ("", "| class | training | held out | test |", "|---|---:|---:|---:|")
    parts = [material.support(part) for part in ("train", "validation", "test")]
    for name, *counts in zip(material.class_names, *parts, strict=True):
        yield f"| {plain(name)} | {' | '.join(map(str, counts))} |"
    yield f"| all | {' | '.join(str(sum(part)) for part in parts)} |"


def _figures(material: Material, task: str, exchange: ExchangeDocument | None) -> Iterator[str]:
    if task == "diffusion":
        yield from _of_images(material)
        return
    row = shipped_row(exchange) if exchange else None
    if exchange is None or row is None:
        yield "Nothing was measured."
        return
    kind = "test images" if row.part == "test" else "held-out images, which chose the head (there are no test images)"
    head = f"{exchange.shipped.head} ({exchange.shipped.reading})"
    yield f"Head: {plain(head)}. Measured on {row.figures['n']} {kind} of the sites; intervals of 95 %."
    yield from ("", "| figure | value | interval |", "|---|---:|---:|")
    for key in CLASSIFIED:
        yield _row(key, row.figures.get(key), row.intervals.get(key))


def _of_images(material: Material) -> Iterator[str]:
    quality = material.quality
    if quality is None or quality.problem is not None:
        yield f"Not judged {plain(quality.problem)}." if quality and quality.problem else "Not judged."
        return
    drawn = f"{quality.num_images} images, {quality.sampler} with {quality.num_steps} steps"
    yield f"{plain(drawn)}, guidance {quality.guidance_scale:g}, weights of round {quality.round}."
    yield "The floor is the same figure of real training images; of a classifier's answers, its accuracy on real ones."
    yield from (
        "",
        "| figure | value | interval or error | floor | real | generated | sites |",
        "|---|---:|---:|---:|---:|---:|---:|",
    )
    for one in quality.figures:
        if one.class_name is None:
            yield _of_figure(one)


def _of_figure(one: Figure) -> str:
    around = f"± {number(one.error)}" if one.error is not None else ""
    if one.interval is not None:
        around = f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
    value = f"not defined: {plain(one.reason or '')}" if one.value is None else number(one.value)
    floor = "" if one.floor is None else number(one.floor)
    floor += f" ± {number(one.floor_error)}" if floor and one.floor_error is not None else ""
    name = f"{one.wording} ({one.features})" if one.features else one.wording
    numbers = f"{one.num_real} | {one.num_generated} | {one.num_sites or ''}"
    return f"| {plain(name)} | {value} | {around} | {floor} | {numbers} |"


def _audit(material: Material) -> Iterator[str]:
    found = material.overview.audit
    if found is None:
        why = "The audit cannot be read" if (material.folder / AUDIT).exists() else "The model was not audited"
        yield f"{why}: whether it knows single training images by heart is not known."
        return
    yield f"Membership inference: {_told(material, found.membership)}"
    yield from (
        "",
        f"Copies among generated images: {_told(material, found.copies) if found.copies else 'not searched.'}",
    )


def _told(material: Material, found: Membership | Copies) -> str:
    told = _unnamed(material, found.reason)
    return f"{found.verdict}{told and ': '}{told}."


def _unnamed(material: Material, reason: str) -> str:
    """Return a reason as plain text; empty if it names a site, which a card does not."""
    names = material.overview.images.keys() | material.overview.sites.keys()
    return "" if any(name in reason for name in names) else plain(reason)


def _limits(material: Material, task: str, exchange: ExchangeDocument | None) -> Iterator[str]:
    """Return what the model is not for: what holds for all of them, and what this run shows."""
    yield from _LIMITS.get(task, ())
    yield "All figures are of images of the sites that trained it. How it does at other hospitals is not known."
    train, test = material.support("train"), material.support("test")
    named = list(zip(material.class_names, train, test, strict=True))
    yield from _listed("No site had a training image of", [name for name, n, _ in named if n == 0])
    yield from _listed(
        f"Fewer than {_FEW} training images of", [f"{name} ({n})" for name, n, _ in named if 0 < n < _FEW]
    )
    yield from _listed("No test image of", [name for name, _, n in named if n == 0] if any(test) else [])
    if not any(test):
        yield "There are no test images, so no figure is independent of the choices made on held-out images."
    if exchange and exchange.abstain_distance is None and task == "classification":
        yield "It has no limit of distance: it names a class for every image, whatever the image shows."


def _listed(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"{what}: {', '.join(map(plain, names))}."


def _row(key: str, value: float | None, interval: Sequence[float] | None) -> str:
    shown = "not defined" if value is None else f"{value:.3f}"
    return f"| {WORDING[key]} | {shown} | {f'{interval[0]:.3f} to {interval[1]:.3f}' if interval else ''} |"


def _source(material: Material) -> str:
    return str(material.document.options.get("data.source", "not known") if material.document else "not known")


def _yaml(text: str) -> str:
    return json.dumps("".join(sign if sign.isprintable() else " " for sign in text), ensure_ascii=False)


def _replace_card(model: Path, text: str) -> None:
    """Replace a model's card, so that its folder is whole at any moment; the other files are linked, not copied."""

    def write(folder: Path) -> None:
        shutil.copytree(model, folder, copy_function=_link, dirs_exist_ok=True)
        for name in (CARD, MANIFEST):
            (folder / name).unlink(missing_ok=True)  # a link: writing to it would change the old folder, too
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
        write_manifest(folder)

    recover_folder(model)
    replace_folder(model, write)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
