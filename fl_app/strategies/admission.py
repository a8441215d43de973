"""Checks each reply before it is averaged; a rejected reply changes nothing."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights, check_arrays
from fl_app.messages.records import Reply
from fl_app.options.federation import AdmissionOptions
from fl_app.sums import FEWEST_SITES, Sums

FaultOf = Callable[[Mapping[str, Sums], Sequence[int] | None], str | None]

_LARGEST_SUM = 1e15
_MOST_LOSS = 1e4  # nats, or error, of one image: a model that diverged is of no use
_MOST_EPOCHS = 1e6
_MOST_SECONDS = 1e9
_MOST_PIECES = 2**20
_ARRAY_FACTOR = 2.0  # honest arrays differ more between sites than whole updates: 3.9 against 1.7 times the median


class Admission:
    """Checks replies, and remembers the update norms of recent rounds.

    Attributes:
        recent_norms: the update norms of the last rounds, a list for each round.
        recent_arrays: of the last rounds, the median norm of each array's update, by its name.
        trained_on: the largest number of images that a site's admitted replies had trained on, by site.
    """

    def __init__(self, options: AdmissionOptions, epochs: float = math.inf) -> None:
        """Store the limits.

        Args:
            options: of the run.
            epochs: how often a node sees an image in a round; infinite if not known.
        """
        self.options = options
        self.epochs = epochs
        self.recent_norms: deque[list[float]] = deque(maxlen=options.norm_window)
        self.recent_arrays: deque[dict[str, float]] = deque(maxlen=options.norm_window)
        self.trained_on: dict[str, float] = {}
        self._shares: dict[str, float] = {}  # of each array, in an update of which all numbers are equal
        self._arrays_of_round: dict[str, dict[str, float]] = {}  # of each site, the norm of each array's update
        self._norms_of_round: dict[str, float] = {}
        self._images_of_round: dict[str, float] = {}

    def check(
        self,
        reply: Reply,
        task: str,
        round_number: int,
        site: str,
        current: Weights,
        expected: Sums,
        num_images: int | None = None,
    ) -> float:
        """Check one reply against the weights sent, the sums asked for and the site's description.

        How long its update may be is judged afterwards: see `judge_length`.

        Args:
            reply: the reply to check.
            task: the task asked for.
            round_number: the round asked for.
            site: name of the node asked.
            current: the weights that were sent.
            expected: sums of 0, with the keys and shapes asked for.
            num_images: training images that the site described; None: unknown.

        Returns:
            The norm of its update; 0 if the node has no images.

        Raises:
            RejectedReply: with the reason.
        """
        if (reply.task, reply.round_number) != (task, round_number):
            raise RejectedReply(f"it answers {reply.task} round {reply.round_number}, not {task} round {round_number}")
        if reply.site != site:
            raise RejectedReply(f"it calls itself {reply.site!r}, but was described as {site!r}")
        self._check_numbers(reply, num_images)
        check_arrays(reply.weights, current)
        if reply.node_ema is not None:
            check_arrays(reply.node_ema, current)
        check_sums(reply.sums, expected)
        if reply.weight == 0:
            return 0.0
        squares = update_squares(reply.weights, current)
        norm = _length(squares)
        num_weights = sum(value.size for value in current.values())
        self._shares = {key: math.sqrt(value.size / num_weights) for key, value in current.items()}
        self._arrays_of_round[site] = {
            key: math.sqrt(square) for key, square in squares.items() if current[key].dtype.kind == "f"
        }
        return norm

    def judge_length(self, site: str, norm: float) -> None:
        """Raise RejectedReply if a checked update is too long compared with recent rounds, if these say anything."""
        if self.typical_norm > 0:
            self.judge_norm(norm, self.typical_norm, "recent rounds")
            self._judge_arrays(site, self.typical_norm, _medians(self.recent_arrays), "recent rounds")

    @property
    def typical_norm(self) -> float:
        """Median update norm of recent rounds; 0 if none is known."""
        recent = [length for norms in self.recent_norms for length in norms]
        return statistics.median(recent) if recent else 0.0

    @property
    def must_wait(self) -> bool:
        """Whether updates can only be checked once all replies of the round have arrived."""
        return self.options.max_update_norm_ratio > 0 and self.typical_norm == 0

    def judge_norm(self, norm: float, typical: float, of: str) -> None:
        """Raise RejectedReply if `norm` is too large compared with `typical`, the median of `of`."""
        ratio = self.options.max_update_norm_ratio
        if ratio > 0 and typical > 0 and norm > ratio * typical:
            raise RejectedReply(
                f"its update is {norm / typical:.1f} times as long as the median of {of}, "
                f"'admission.max-update-norm-ratio' allows {ratio:g}"
            )

    def judge_average(self, site: str, moved: float, gap: float) -> None:
        """Raise RejectedReply if a node's average of its own weights moved farther than these weights can take it.

        Args:
            site: whose update has been checked.
            moved: distance of the average from the one that was sent.
            gap: distance of the weights that were sent from the average that was sent.
        """
        ratio = self.options.max_update_norm_ratio
        longest = gap + math.hypot(*self._arrays_of_round.get(site, {}).values())
        if 0 < ratio * longest < moved:
            raise RejectedReply(
                f"its EMA moved {moved / longest:.1f} times as far as its weights, 'admission.max-update-norm-ratio' "
                f"allows {ratio:g}"
            )

    def judge_round(self, norms: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        """Yield the sites whose updates, or one array of them, are too long compared with this round's; and why.

        Args:
            norms: of the updates of the round, by site.
        """
        typical = statistics.median(norms.values()) if norms else 0.0
        arrays = _medians([self._arrays_of_round[site] for site in norms])
        for site, norm in norms.items():
            try:
                self.judge_norm(norm, typical, "this round")
                self._judge_arrays(site, typical, arrays, "this round")
            except RejectedReply as error:
                yield site, str(error)

    def judge_doubtful(self, doubtful: Mapping[str, str], norms: Mapping[str, float]) -> dict[str, str]:
        """Return the sites whose updates stay refused, and why.

        Updates that are too long compared with recent rounds are judged by their own round if they are most of it.
        Else two sites whose loss is near 0 could shut out all others for good, and the model forget their classes.

        Args:
            doubtful: reasons of the sites whose updates `judge_length` refused in this round.
            norms: of their updates, by site.
        """
        all_norms = {**self._norms_of_round, **norms}
        if len(all_norms) < FEWEST_SITES or 2 * len(doubtful) <= len(all_norms):
            return dict(doubtful)
        return {site: reason for site, reason in self.judge_round(all_norms) if site in doubtful}

    def _judge_arrays(self, site: str, typical: float, arrays: Mapping[str, float], of: str) -> None:
        """Raise RejectedReply if the update of one array is too long, though the whole update is not.

        An array is compared with the median of its own updates, or with its share of a typical update, if that is
        longer: an array that hardly moves elsewhere is no measure.
        """
        ratio = _ARRAY_FACTOR * self.options.max_update_norm_ratio
        for key, norm in self._arrays_of_round[site].items():
            longest = max(arrays.get(key, math.inf), self._shares[key] * typical)
            if ratio > 0 and 0 < ratio * longest < norm:
                raise RejectedReply(
                    f"its update of {key!r} is {norm / longest:.1f} times as long as the median of {of}, twice "
                    f"'admission.max-update-norm-ratio' allows {ratio:g}"
                )

    def remember(self, reply: Reply, norm: float) -> None:
        """Keep an admitted reply's norm and images, until `end_round` or `forget_round`."""
        if reply.weight > 0:
            self._norms_of_round[reply.site] = norm
            self._images_of_round[reply.site] = reply.weight

    def end_round(self) -> None:
        """Remember the norms and numbers of images of this round's admitted replies."""
        if self._norms_of_round:
            self.recent_norms.append(sorted(self._norms_of_round.values()))
            self.recent_arrays.append(_medians([self._arrays_of_round[site] for site in sorted(self._images_of_round)]))
        for site, images in self._images_of_round.items():
            self.trained_on[site] = max(images, self.trained_on.get(site, 0.0))
        self.forget_round()

    def forget_round(self) -> None:
        """Drop this round's norms and numbers of images: the round failed."""
        self._norms_of_round, self._images_of_round, self._arrays_of_round = {}, {}, {}

    def _check_numbers(self, reply: Reply, num_images: int | None) -> None:
        """Raise RejectedReply if the weight or a figure of the training is impossible."""
        weight = reply.weight
        if not (math.isfinite(weight) and weight >= 0):
            raise RejectedReply(f"its weight must be a finite number of at least 0, got {weight}")
        if 0 < self.options.max_weight < weight:
            raise RejectedReply(f"its weight {weight:g} is beyond 'admission.max-weight' = {self.options.max_weight:g}")
        if num_images is not None and weight > num_images:
            raise RejectedReply(
                f"it trained on {weight:.0f} images, but described {num_images} when the run began; new images need a "
                "new run"
            )
        figures = (reply.loss_sum, reply.num_losses, reply.seconds, reply.num_pieces)
        if not all(math.isfinite(value) for value in figures):
            raise RejectedReply("a figure of its training is not finite, or absurdly large")
        most_losses = reply.weight * min(self.epochs + 1.0, _MOST_EPOCHS)
        if not (_is_count(reply.num_losses) and reply.num_losses <= most_losses):
            raise RejectedReply(
                f"it says that it trained {reply.num_losses:g} times on an image, at most {most_losses:g} can be"
            )
        if not 0 <= reply.loss_sum <= _MOST_LOSS * reply.num_losses:
            raise RejectedReply(f"its training losses, {reply.loss_sum:g} in total, are negative, or absurdly large")
        if not 0 <= reply.seconds <= _MOST_SECONDS:
            raise RejectedReply(f"it says that it trained for {reply.seconds:g} seconds, which is impossible")
        if not (_is_count(reply.num_pieces) and 1 <= reply.num_pieces <= _MOST_PIECES):
            raise RejectedReply(
                f"it says that it cut its batches into {reply.num_pieces:g} pieces, which is impossible"
            )


def _is_count(value: float) -> bool:
    return value >= 0 and value == math.floor(value)


def check_sums(found: Sums, expected: Sums) -> None:
    """Raise RejectedReply unless names and shapes agree and every sum is finite and below 1e15."""
    if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in expected.items()}:
        raise RejectedReply("its sums have other names or shapes than those asked for")
    for value in found.values():
        if not (np.isfinite(value).all() and (np.abs(value) < _LARGEST_SUM).all()):
            raise RejectedReply("its sums are not finite, or absurdly large")


def check_measured(sums: Sums, names: Sequence[str], held_out: Sequence[int] | None, fault_of: FaultOf) -> None:
    """Raise RejectedReply if measurements of models are impossible.

    Args:
        sums: of each model, prefixed with its name and a slash.
        names: of the models.
        held_out: images of each class, as the site described them; None: unknown.
        fault_of: of the task.

    Raises:
        RejectedReply: with the reason.
    """
    models = {
        name: {key.removeprefix(f"{name}/"): value for key, value in sums.items() if key.startswith(f"{name}/")}
        for name in names
    }
    fault = fault_of(models, held_out)
    if fault:
        raise RejectedReply(fault)


def no_fault(models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
    """Return None: accept all measurements."""
    return None


def update_norm(new: Mapping[str, NDArray[np.generic]], old: Mapping[str, NDArray[np.generic]]) -> float:
    """Return the Euclidean norm of the update over all arrays, in float64."""
    return _length(update_squares(new, old))


def update_squares(new: Mapping[str, NDArray[np.generic]], old: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """Return the squared Euclidean norm of each array's update, in float64, in the order of the old arrays."""
    squares: dict[str, float] = {}
    for key, value in old.items():  # in the model's own order, since a reply's arrays have another
        difference = new[key].astype(np.float64) - value.astype(np.float64)
        squares[key] = float(np.vdot(difference, difference))
    return squares


def _length(squares: Mapping[str, float]) -> float:
    total = 0.0
    for square in squares.values():  # in order, rounded at each step: `sum` rounds otherwise in some versions of Python
        total += square
    return math.sqrt(total)


def _medians(norms: Sequence[Mapping[str, float]] | deque[dict[str, float]]) -> dict[str, float]:
    """Return the median of each array's norms."""
    return {key: statistics.median(one[key] for one in norms) for key in (norms[0] if norms else {})}
