"""Options of a run's images: which they are, and how a simulation splits them."""

import unicodedata
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fl_app.options.sections import Names, Plugin, Section

Scheme = Literal["iid", "dirichlet", "pathological", "shard", "linear", "square", "exponential", "sites"]


class DataOptions(Section):
    """The images: which, how large, how many."""

    source: Annotated[str, Plugin("sources")] = Field(description="where images come from")
    directory: str = Field(
        description="folder of the files; empty: $FL_APP_DATA, else a download into the user's cache"
    )
    image_size: int = Field(ge=0, le=512, description="side in pixels after resizing; 0 keeps the source's own size")
    limit: int = Field(
        ge=0,
        description="most training images to use in a simulation, the same share of each class; a part val is reduced "
        "by the same factor; 0: all. A hospital uses all of its own",
    )
    validation_share: float = Field(
        ge=0,
        lt=1,
        description="share of a simulated node's training images that is held out, if the data have no part val; 0: "
        "none. A hospital has a node option of this name",
    )
    test_share: float = Field(
        ge=0,
        lt=1,
        description="share of a folder's images (or patients) that becomes its part test in a simulation, if it has "
        "none; 0: no test set. Public data sets have a test set of their own, a hospital a node option of this name",
    )
    class_names: Names = Field(
        description="source folder only: the agreed class names, comma-separated, in label order; empty: those of the "
        "folders, which must all agree"
    )
    num_channels: Literal[0, 1, 3] = Field(
        description="source folder only: 1 grey, 3 RGB; 0: those of the folders, which must all agree"
    )

    @field_validator("class_names")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Compose accents, which systems write in two ways, and reject lists that are not comma-separated."""
        for name in names:
            if set(name) & set(';[]"'):
                raise ValueError(
                    f"separate class names by commas, without quotes, brackets and semicolons, got {name!r}"
                )
        return tuple(unicodedata.normalize("NFC", name) for name in names)


class PartitionOptions(Section):
    """How a simulation splits one data set among its nodes."""

    scheme: Scheme = Field(
        description="how images are split: iid, dirichlet, pathological, shard, linear, square, exponential; or sites: "
        "each folder below data.directory is a site of that name, and nothing is split"
    )
    alpha: float = Field(
        gt=0, description="dirichlet: concentration; small values give a skewed split, large ones an even split"
    )
    classes_per_node: int = Field(
        ge=1, description="pathological: classes that each node holds, or more if a class would else be at no node"
    )
    shards_per_node: int = Field(ge=1, description="shard: label-sorted shards that each node gets")
    min_images: int = Field(ge=1, description="node option min-images of every simulated node; a hospital's own is 20")
    min_held_out: int = Field(
        ge=1, description="node option min-held-out of every simulated node; a hospital's own is 5"
    )
    min_class_count: int = Field(
        ge=1, description="node option min-class-count of every simulated node; a hospital's own is 5"
    )
