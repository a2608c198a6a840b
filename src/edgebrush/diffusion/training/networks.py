"""The networks in PyTorch, for training only; their ONNX exports ship."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = {"light": (24, 40), "heavy": (64, 128)}  # channels at 14x14 and at 7x7
GROUPS = 8  # of each group normalisation
TIME_SCALE = 1000.0  # diffusers' time embedding expects steps 0..1000


class Velocity(nn.Module):
    """The velocity of a rectified flow: image (B, 1, 28, 28), time (B,) in [0, 1], label (B,) -> (B, 1, 28, 28).

    A U-Net on the pixel-unshuffled image (4, 14, 14), which has a quarter of the positions.
    """

    def __init__(self, widths: tuple[int, int], classes: int):
        super().__init__()
        self.unet: Any = UNet2DModel(
            sample_size=14,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=widths,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            norm_num_groups=GROUPS,
            num_class_embeds=classes,
            add_attention=False,
        )

    def forward(self, sample: Tensor, time: Tensor, label: Tensor) -> Tensor:
        velocity = self.unet(functional.pixel_unshuffle(sample, 2), time * TIME_SCALE, label).sample
        return functional.pixel_shuffle(velocity, 2)


class Classifier(nn.Module):
    """Scores generated images: image (B, 1, 28, 28) -> features (B, 64) and class logits (B, classes)."""

    def __init__(self, classes: int, features: int = 64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(sample)
        return features, self.head(features)
