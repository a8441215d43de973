"""The legend of dimensions, and the batch that every loss takes.

N  images of a set            B  images of a batch
C  channels (1 or 3)          H, W  height and width in pixels
K  classes                    D  size of an embedding
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images and labels on the training device.

    Attributes:
        images: [B, C, H, W] float32 in [-1, 1].
        labels: [B] int64 in [0, K).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def __getitem__(self, part: slice) -> "Batch":
        return Batch(self.images[part], self.labels[part])
