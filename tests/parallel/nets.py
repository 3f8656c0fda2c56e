"""Nets for several ranks to train."""

from __future__ import annotations

from torch import nn


class Normed(nn.Sequential):
    """Batch norm, and nothing with a kink in it."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.SiLU(),
            nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.SiLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 10),
        )  # fmt: skip


class Dropping(nn.Module):
    """Dropout, and a shape that an empty batch does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(64, 32), nn.Dropout(0.3), nn.Linear(32, 10)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return self.last(self.drop(self.first(images.view(images.shape[0], -1)).relu()))
