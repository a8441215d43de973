"""What the app prints: the server into the stream that `flwr run --stream` shows, a hospital into its node's output."""

import logging


def hide_log() -> None:
    """Print nothing, not even warnings, which Python prints where nobody asked: a simulated node's names of files."""
    logging.getLogger("fl_app").addHandler(logging.NullHandler())


def show_log() -> None:
    """Print what the app logs, each line with its time."""
    ours = logging.getLogger("fl_app")
    if not any(type(handler) is logging.StreamHandler for handler in ours.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s : %(message)s", "%Y-%m-%d %H:%M:%S"))
        ours.addHandler(handler)
    ours.setLevel(logging.INFO)
