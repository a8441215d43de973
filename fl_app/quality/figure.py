"""One figure of generated images, and how figures are called for people; imports nothing heavy."""

from dataclasses import dataclass

from fl_app.files import KEBAB

FRECHET, KERNEL, LABELS = "frechet-distance", "kernel-distance", "label-accuracy"
NEIGHBOURS = ("precision", "recall", "density", "coverage")
TRAINED_ON = ("synthetic", "real", "both")
OWN_IMAGES = "as many of the site's own images, which may lack classes"  # what `trained-on-real` was trained on
CLASSIFIED = ("accuracy", "balanced-accuracy", "auc", "macro-f1")  # of a classifier

_TRAINED = "accuracy on real images, trained on"
WORDING = {
    FRECHET: "Fréchet distance",
    KERNEL: "kernel distance",
    **{name: name for name in NEIGHBOURS},
    LABELS: "taken for their class by the run's classifier",
    "trained-on-synthetic": f"{_TRAINED} generated ones",
    "trained-on-real": f"{_TRAINED} {OWN_IMAGES}",
    "trained-on-both": f"{_TRAINED} both of these",
    **dict(zip(CLASSIFIED, ("accuracy", "balanced accuracy", "AUC", "macro-F1"), strict=True)),
    "home-accuracy": "accuracy on the site's own images",
}


@dataclass(frozen=True)
class Figure:
    """One figure of generated images.

    Attributes:
        name: such as `frechet-distance`.
        features: network whose features are compared; empty: none.
        class_name: of the images; None: all classes.
        value: None if it is not defined.
        error: standard error over the real images, if known.
        interval: of 95 %, if known.
        floor: the same figure of real training images in place of generated ones; None: not defined, or no such thing.
        floor_error: standard error of the floor over the real images, if known.
        num_real: real test images.
        num_generated: generated images.
        num_sites: whose images are in it.
        rests_on: a site without which the figure would be quite another one: false sums of one site can do that, and so
            can a site that differs from the others; None: no such site, or fewer than three sites.
        reason: why there is no value.
        network: the first digits of the SHA-256 of the feature network, if its weights are a file or a classifier:
            distances in the features of different networks do not compare.
    """

    __pydantic_config__ = KEBAB

    name: str
    features: str
    class_name: str | None
    value: float | None
    error: float | None = None
    interval: tuple[float, float] | None = None
    floor: float | None = None
    num_real: int = 0
    num_generated: int = 0
    num_sites: int = 0
    rests_on: str | None = None
    reason: str | None = None
    floor_error: float | None = None
    network: str = ""

    @property
    def measured_on(self) -> tuple[int, str]:
        """How many images its value is a share or mean over, and which."""
        is_of_generated = self.name == LABELS or not self.num_real
        return (self.num_generated, "generated images") if is_of_generated else (self.num_real, "real test images")

    @property
    def wording(self) -> str:
        """Its name for people."""
        return WORDING.get(self.name, self.name)


def is_share(name: str) -> bool:
    """Tell whether a figure is a share, such as an accuracy, and no distance, loss or cost."""
    return name in WORDING and name not in (FRECHET, KERNEL)
