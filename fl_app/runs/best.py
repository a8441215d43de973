"""The best model of a pass so far."""

from dataclasses import dataclass, field

from fl_app.messages.arrays import Weights


@dataclass
class Best:
    """The best model so far: with the lowest validation loss, or with the best images.

    Attributes:
        loss: its loss, or the Fréchet distance of its images; None before the first measurement.
        round_number: the round after which it was measured; 0 is the start.
        name: the weights that had this.
        models: its weights by name, until they are on disk.
    """

    loss: float | None = None
    round_number: int = 0
    name: str = "raw"
    models: dict[str, Weights] = field(default_factory=dict)

    def values(self) -> dict[str, object]:
        """Return all but the weights, for JSON."""
        return {"loss": self.loss, "round_number": self.round_number, "name": self.name}
