"""Reads the hospital's images as a run does, and checks the result."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fl_app.data.images import DatasetInfo
from fl_app.data.sources import dataset_info
from fl_app.data.survey import Survey, survey
from fl_app.doctor.finding import Finding, plural, sentence
from fl_app.errors import FlAppError, is_fault
from fl_app.node.images import LocalData, load_local
from fl_app.node.permissions import check_task
from fl_app.node.state import key_file
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig

log = logging.getLogger(__name__)

T = TypeVar("T")


def read_images(config: RunConfig, node: NodeConfig) -> LocalData | str:
    """Read the node's images as a run does, also those below the node's minimums, without writing anything.

    If that fails, return the reason, without file names.
    """
    all_of_them = {"max_cache_megabytes": 0, "min_images": 1, "min_held_out": 1}
    return _or_reason(lambda: load_local(config, node.model_copy(update=all_of_them), is_trial=True))


def survey_folder(config: RunConfig, node: NodeConfig) -> Survey | str:
    """Survey the node's folder; if that fails, return the reason, without file names."""
    info = run_info(config, "")
    names = info.class_names if info else config.data.class_names
    found = _or_reason(lambda: survey(Path(node.data_path).expanduser(), names))
    if not isinstance(found, str):
        _log_names(found)
    return found


def run_info(config: RunConfig, found: LocalData | str) -> DatasetInfo | None:
    """Return the run's classes, channels and size, from the images or else from its options; None if both lack them."""
    if not isinstance(found, str):
        channels, height, _ = found.train.images.shape[1:]
        return DatasetInfo(found.train.class_names, channels, height)
    try:
        return dataset_info(config.data)
    except FlAppError:  # the options leave it to the folders
        return None


def check_allowed(node: NodeConfig, task: str) -> Finding:
    """Check that the node's own options allow a task; raises NotAllowedError."""
    check_task(node, task)
    return Finding(f"task {task}", "ready", "The node's options allow it.")


def check_limits(node: NodeConfig) -> Finding:
    """Say below which numbers of images nothing leaves the node, and how many messages of a day it accepts."""
    rounds, queries = (str(limit or "any number of") for limit in (node.max_rounds_per_day, node.max_queries_per_day))
    text = (
        f"Nothing leaves of fewer than {node.min_images} training images ('min-images'), {node.min_held_out} held-out "
        f"or test images ('min-held-out') and {node.min_class_count} images of a class ('min-class-count'). "
        f"In a day (UTC) the node accepts {rounds} training messages ('max-rounds-per-day') and {queries} others that "
        "read its images ('max-queries-per-day')."
    )
    return Finding("limits", "ready", text, is_told=True)


def check_reading(found: LocalData | str, node: NodeConfig) -> Finding:
    """Check that a run can read the images, and count the images of each part."""
    name = "reading"
    if isinstance(found, str):
        return Finding(name, "not ready", f"A run could not read the images: {sentence(found)}")
    train, held_out, fewest = len(found.train), len(found.validation), node.min_held_out
    tested = f"the {len(found.test)} of the part 'test'"
    if 0 < len(found.test) < fewest:
        tested = f"none, because {len(found.test)} is less than 'min-held-out', {fewest}"
    elif len(found.test) == 0:
        tested = "none, because there is no part 'test' and 'test-share' is 0 or too small"
    elif found.test_from == "drawn":
        tested = (
            f"{len(found.test)}, taken out of the training images by 'test-share'; a part 'test' would replace them"
        )
    text = f"A run trains on {plural(train, 'image')}, holds {held_out} out, and tests on {tested}."
    if not key_file(node).exists():
        text += " The node makes the key of its split when it first starts: these numbers may then differ by a few."
    if train < node.min_images:
        why = f"These are fewer than 'min-images', {node.min_images}: the node would take part without training."
        return Finding(name, "not ready", f"{text} {why if train else 'There is nothing to train on.'}")
    if held_out < fewest:
        why = (
            f"{held_out} is less than 'min-held-out', {fewest}" if held_out else "'validation-share' is 0 or too small"
        )
        return Finding(name, "warning", f"{text} Nothing is measured here, because {why}.")
    return Finding(name, "ready", text)


def check_classes(found: LocalData | str, min_class_count: int) -> Finding:
    """Count the training images of each class of the run."""
    name = "classes"
    if isinstance(found, str):
        return Finding(name, "not checked", "The images could not be read.")
    counts = found.train.class_counts().tolist()
    text = f"Training images: {_list(found.train.class_names, counts)}."
    pairs = list(zip(found.train.class_names, counts, strict=True))
    missing = [one for one, count in pairs if count == 0]
    withheld = [one for one, count in pairs if 0 < count < min_class_count]
    if missing:
        text += f" None of {', '.join(missing)}: if you have such images, check the names of your folders or labels."
    if withheld:
        which = "any class" if len(withheld) + len(missing) == len(pairs) else ", ".join(withheld)
        text += f" Because of 'min-class-count', {min_class_count}, no prototype of {which} leaves this node."
    return Finding(name, "warning" if missing or withheld else "ready", text)


def num_bytes(found: LocalData | str) -> int:
    """Return the bytes of memory that the images take; 0 if they could not be read."""
    if isinstance(found, str):
        return 0
    return sum(part.images.numel() for part in (found.train, found.validation, found.test))


def num_training(found: LocalData | str) -> int:
    """Return the number of training images; 0 if they could not be read."""
    return 0 if isinstance(found, str) else len(found.train)


def _list(names: Sequence[str], counts: Sequence[int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))


def _log_names(found: Survey) -> None:
    """Log the names of the files that the findings count."""
    for name, why in found.unreadable:
        log.info("cannot be read: %s (%s)", name, why)
    for name in found.labels_without_file:
        log.info("has a label, but does not exist: %s", name)
    for name in found.files_without_label:
        log.info("has no label: %s", name)
    for group in found.duplicates:
        kind = "the same image with different labels" if group in found.contradictions else "the same image"
        log.info("%s: %s", kind, ", ".join(group))


def _or_reason(read: Callable[[], T]) -> T | str:
    try:
        return read()
    except FlAppError as error:
        log.error("%s", error)
        return error.public
    except BaseException as error:  # its text may hold names of files
        if not is_fault(error):
            raise
        return f"reading them failed with {type(error).__name__}"
