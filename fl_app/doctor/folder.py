"""Checks the content of the hospital's folder, from a survey: counts only, no names of files."""

from functools import partial

from fl_app.data.images import DatasetInfo
from fl_app.data.listing import KINDS
from fl_app.data.survey import Survey
from fl_app.doctor.finding import Checks, Finding, plural

_SHOWN_SIZES = 5
_COLOURS = {1: "grey", 3: "RGB"}


def check_folder(found: Survey) -> Finding:
    """Count the images, and name the form of their labels."""
    if found.num_files == 0:
        text = (
            f"It holds no labelled image. Expected {KINDS} files in one folder for each class, or a table labels.csv "
            "with the columns file and label, or one npz in MedMNIST's form."
        )
        return Finding("folder", "not ready", text)
    parts = ", ".join(f"{name} {count:,}" for name, count in found.part_counts.items())
    text = f"{plural(found.num_images, 'readable image')}, labelled by {found.layout}; {parts or 'no parts'}."
    return Finding("folder", "ready" if found.num_images else "not ready", text)


def check_sizes(found: Survey, info: DatasetInfo | None) -> Finding:
    """List the sizes of the images, and how a run changes them; `info`: of the run, if known."""
    ordered = sorted(found.sizes.items(), key=lambda pair: (-pair[1], pair[0]))
    sizes = [f"{width} x {height} ({count:,})" for (width, height), count in ordered[:_SHOWN_SIZES]]
    sizes += [f"{len(ordered) - _SHOWN_SIZES} other sizes"] if len(ordered) > _SHOWN_SIZES else []
    text = f"Pixels: {', '.join(sizes) or 'none'}."
    if info is None:
        return Finding("sizes", "ready", text)
    side = info.image_size
    text += f" The run resizes to {side} x {side}."
    oblong = sum(count for (width, height), count in ordered if width != height)
    small = sum(count for (width, height), count in ordered if min(width, height) < side)
    if oblong:
        text += f" {plural(oblong, 'image')} will be stretched to a square."
    if small:
        text += f" {plural(small, 'image')} will be enlarged."
    return Finding("sizes", "warning" if small else "ready", text)


def check_channels(found: Survey, info: DatasetInfo | None) -> Finding:
    """Count grey and colour images, and compare with the channels of the run."""
    counts = ", ".join(f"{_COLOURS[channels]} {count:,}" for channels, count in sorted(found.channels.items()))
    text = f"{counts or 'No image'}."
    wanted = info.num_channels if info else 0
    others = sum(count for channels, count in found.channels.items() if channels != wanted)
    if wanted and others:
        text += f" The run takes {_COLOURS[wanted]} images: {plural(others, 'image')} will be converted."
        return Finding("channels", "warning", text)
    return Finding("channels", "warning" if len(found.channels) > 1 else "ready", text)


def check_unreadable(found: Survey, max_share: float) -> Finding:
    """Count the missing or broken files; `max_share`: the node option `max-unreadable-share`."""
    count = len(found.unreadable) + len(found.labels_without_file)
    without = plural(found.num_without_image, "DICOM file")
    passed = (
        f" {without} without an image, such as reports, {_are(found.num_without_image)} ignored."
        if found.num_without_image
        else ""
    )
    if count == 0:
        return Finding("unreadable", "ready", f"Every labelled file can be read.{passed}")
    text = f"{plural(count, 'file')} of {found.num_files:,} cannot be read or {_are(count)} missing"
    if found.unreadable_share > max_share:
        limit = f"more than the {max_share:.1%} that 'max-unreadable-share' allows: fix these files or remove them"
        return Finding("unreadable", "not ready", f"{text}, {limit}.{passed}")
    return Finding("unreadable", "warning", f"{text}; a run ignores them.{passed}")


def check_labels(found: Survey) -> Finding:
    """Count labels without a file, and images without a label."""
    gaps = {
        "label without a file": len(found.labels_without_file),
        "image without a label": len(found.files_without_label),
    }
    told = [f"{count:,} x {what}" for what, count in gaps.items() if count]
    if told:
        return Finding("labels", "warning", f"Found {', '.join(told)}. These are not used.")
    return Finding("labels", "ready", "Every image has a label, and every label an image.")


def check_duplicates(found: Survey) -> Finding:
    """Count images that occur more than once, and those of them that have different labels."""
    spare = sum(len(group) - 1 for group in found.duplicates)
    if not spare:
        return Finding("duplicates", "ready", "No image occurs twice.")
    text = (
        f"{plural(spare, 'image')} {_are(spare)} there more than once, so held-out images may be training images, too."
    )
    if found.contradictions:
        count = plural(len(found.contradictions), "picture")
        are = _are(len(found.contradictions))
        return Finding("duplicates", "warning", f"{text} {count} with different labels {are} among them: correct them.")
    return Finding("duplicates", "warning", text)


def check_patients(found: Survey) -> Finding:
    """Check that no patient has images in more than one part."""
    if found.num_patients is None:
        text = "The images name no patients, so images of one patient may be both trained on and held out."
        return Finding("patients", "not checked", f"{text} A table with a column 'patient' prevents this.")
    text = f"{plural(found.num_patients, 'patient')}."
    if found.num_patients_on_two_sides:
        count = plural(found.num_patients_on_two_sides, "patient")
        what = "images in more than one part: move all images of a patient to one part"
        return Finding("patients", "not ready", f"{text} {count} {_have(found.num_patients_on_two_sides)} {what}.")
    return Finding("patients", "ready", f"{text} None is in more than one part.")


def check_brightness(found: Survey) -> Finding:
    """Count images that show nothing or almost nothing."""
    told = []
    if found.num_constant:
        told.append(
            f"{plural(found.num_constant, 'image')} of one colour {_are(found.num_constant)} there: leave out images "
            "that show nothing."
        )
    if found.num_faint:
        told.append(
            f"{plural(found.num_faint, 'image')} {_are(found.num_faint)} nearly black: almost no pixel is brighter "
            "than 16 of 255."
        )
    if found.num_faint_deep:
        count = plural(found.num_faint_deep, "16-bit image")
        told.append(
            f"{count} of these {_have(found.num_faint_deep)} almost no value of 4,096 or more: scale to 0..65,535."
        )
    if found.num_windows_ignored:
        count = plural(found.num_windows_ignored, "DICOM file")
        told.append(
            f"{count} {_have(found.num_windows_ignored)} a meaningless window, which is ignored: the smallest value is "
            "shown black and the largest white."
        )
    if told:
        return Finding("brightness", "warning", " ".join(told))
    return Finding("brightness", "ready", "No image is of one colour or nearly black.")


def folder_checks(found: Survey, info: DatasetInfo | None, max_unreadable_share: float) -> Checks:
    """Yield the checks of a folder; `info`: of the run, if known."""
    yield "folder", partial(check_folder, found)
    if found.num_files:
        yield "unreadable", partial(check_unreadable, found, max_unreadable_share)
    if not found.num_images:
        return
    yield "sizes", partial(check_sizes, found, info)
    yield "channels", partial(check_channels, found, info)
    yield "brightness", partial(check_brightness, found)
    yield "labels", partial(check_labels, found)
    yield "duplicates", partial(check_duplicates, found)
    yield "patients", partial(check_patients, found)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
