"""A node's description of its images, sent before training."""

from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict

from fl_app.data.images import DatasetInfo
from fl_app.data.listing import PARTS, Part
from fl_app.errors import RejectedReply
from fl_app.logs import clean_text
from fl_app.messages.records import NODE, text, whole
from fl_app.options.sections import LONGEST_NAME

_LONGEST_CLASS_NAME = 1024  # limit of a description; `agreement` has a lower one for the run's classes
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class SiteDescription:
    """A node's description of its images, sent before training.

    Attributes:
        site: the node's name.
        info: classes, channels and size of its images.
        train_counts: training images of each class, K numbers.
        validation_counts: held-out images of each class, K numbers.
        test_counts: test images of each class that it measures, K numbers.
        num_test_shares: into how many shares, one a node, the common test set of a simulation is split; 0: the test
            images are the node's own.
        num_unreadable: files left out because they are missing or broken.
        too_few: parts that the node does not use, because they have fewer images than its options allow.
    """

    site: str
    info: DatasetInfo
    train_counts: list[int]
    validation_counts: list[int]
    test_counts: list[int]
    num_test_shares: int = 0
    num_unreadable: int = 0
    too_few: tuple[Part, ...] = ()

    def counts(self) -> dict[str, list[int]]:
        """Return the number of images of each class, by part, in run.json's format."""
        return {"train": self.train_counts, "validation": self.validation_counts, "test": self.test_counts}


def write_description(description: SiteDescription) -> RecordDict:
    """Write a description into a record."""
    info = description.info
    node = ConfigRecord(
        {
            "site": description.site,
            "class-names": list(info.class_names),
            "num-channels": info.num_channels,
            "image-size": info.image_size,
            "train-counts": description.train_counts,
            "validation-counts": description.validation_counts,
            "test-counts": description.test_counts,
            "test-shares": description.num_test_shares,
            "unreadable-files": description.num_unreadable,
            "too-few": [str(part) for part in description.too_few],
        }
    )
    return RecordDict({NODE: node})


def read_description(message: Message) -> SiteDescription:
    """Read a node's description.

    Returns:
        The description. The site's name is cut to one character more than allowed, so that the check still fails.

    Raises:
        RejectedReply: a key is missing, too long or of another kind.
    """
    try:
        node = message.content.config_records[NODE]
        class_names = _list_of(node["class-names"], "class names")
        if any(len(text(name)) > _LONGEST_CLASS_NAME for name in class_names):
            raise RejectedReply(f"its class names must have at most {_LONGEST_CLASS_NAME} characters")
        names = tuple(clean_text(text(name), _LONGEST_CLASS_NAME) for name in class_names)
        return SiteDescription(
            site=text(node["site"])[: LONGEST_NAME + 1],
            info=DatasetInfo(names, whole(node["num-channels"]), whole(node["image-size"])),
            train_counts=[whole(count) for count in _list_of(node["train-counts"], "counts")],
            validation_counts=[whole(count) for count in _list_of(node["validation-counts"], "counts")],
            test_counts=[whole(count) for count in _list_of(node["test-counts"], "counts")],
            num_test_shares=whole(node["test-shares"]),
            num_unreadable=whole(node["unreadable-files"]),
            too_few=tuple(part for part in PARTS if part in _list_of(node["too-few"], "parts")),
        )
    except RejectedReply:
        raise
    except Exception as error:  # a node may send anything
        raise RejectedReply(f"its description cannot be read ({type(error).__name__})") from None


def _list_of(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    if len(value) > _MOST_CLASSES:
        raise RejectedReply(f"it sent {len(value)} {what}, at most {_MOST_CLASSES} are allowed")
    return value
