"""Inception-v3 as trained at Google on 2015-12-05, up to pool3: the features behind FID and KID.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
arXiv:1512.00567. It differs from later Inception-v3 weights in three ways that change every FID:
average pools do not count the padding, the last block pools by maximum, and pictures are enlarged
to 299 pixels the way TensorFlow 1 did it (corner to corner, no antialiasing).

Two files with these weights are known: `inception_fid.pt` (TorchScript of NVIDIA's conversion, 376
tensors) and pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from retouch.weights import official, store

__all__ = ["Inception", "resize_tf1"]

FEATURES = 2048
_SIDE = 299


def resize_tf1(picture: Tensor, side: int = _SIDE) -> Tensor:
    """Resize as TensorFlow 1's `resize_bilinear` does: output pixel i lies at i * old / new.

    Args:
        picture: (b, c, h, w).
        side: New height and width [px].

    Returns:
        (b, c, side, side).
    """
    rows, below, v = _positions(picture.shape[-2], side, picture)
    columns, right, u = _positions(picture.shape[-1], side, picture)
    top, bottom = picture[..., rows, :], picture[..., below, :]
    whole = top + (bottom - top) * v[:, None]  # (b, c, side, w)
    left = whole[..., columns]
    return left + (whole[..., right] - left) * u


def _positions(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    place = torch.arange(new, device=like.device, dtype=torch.float32) * (old / new)
    first = place.floor().long().clamp(max=old - 1)
    return first, (first + 1).clamp(max=old - 1), (place - first).to(like.dtype)


class _Unit(nn.Module):
    """Convolution, batch normalisation without gain, ReLU."""

    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        before: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: Any = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, channels, kernel, stride=stride, padding=pad, bias=False)
        self.offset = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = nn.functional.batch_norm(x, self.mean, self.variance, bias=self.offset, eps=1e-3)
        return x.relu()


def _average(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _chain(before: int, *steps: tuple[Any, ...]) -> nn.Sequential:
    """Build units in a row from (channels, kernel, stride, padding)."""
    units: list[nn.Module] = []
    for step in steps:
        units.append(_Unit(before, *step))
        before = step[0]
    return nn.Sequential(*units)


class _Grid(nn.Module):
    """Parallel branches; the last one follows an average pool where the block has one."""

    def __init__(self, *branches: nn.Module, shrink: bool = False) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        if self.shrink:
            pooled = nn.functional.max_pool2d(x, 3, stride=2)
            return torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1)
        *plain, last = self.branches
        return torch.cat([*(branch(x) for branch in plain), last(_average(x))], dim=1)


class _Fan(nn.Module):
    """The widest blocks: two of the branches end in a row and a column convolution side by side."""

    def __init__(self, before: int, *, maximum: bool) -> None:
        super().__init__()
        self.single = _Unit(before, 320, 1)
        self.short = _Unit(before, 384, 1)
        self.short_row, self.short_column = self._cross()
        self.long = _chain(before, (448, 1), (384, 3, 1, 1))
        self.long_row, self.long_column = self._cross()
        self.pooled = _Unit(before, 192, 1)
        self.maximum = maximum

    @staticmethod
    def _cross() -> tuple[_Unit, _Unit]:
        return _Unit(384, 384, (1, 3), 1, (0, 1)), _Unit(384, 384, (3, 1), 1, (1, 0))

    def forward(self, x: Tensor) -> Tensor:
        short, long = self.short(x), self.long(x)
        pooled = (
            nn.functional.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else _average(x)
        )
        parts = [self.single(x), self.short_row(short), self.short_column(short)]
        parts += [self.long_row(long), self.long_column(long), self.pooled(pooled)]
        return torch.cat(parts, dim=1)


def _block_35(before: int, pooled: int) -> _Grid:
    return _Grid(
        _chain(before, (64, 1)),
        _chain(before, (48, 1), (64, 5, 1, 2)),
        _chain(before, (64, 1), (96, 3, 1, 1), (96, 3, 1, 1)),
        _chain(before, (pooled, 1)),
    )


def _block_17(c: int) -> _Grid:
    row, column = (c, (1, 7), 1, (0, 3)), (c, (7, 1), 1, (3, 0))
    return _Grid(
        _chain(768, (192, 1)),
        _chain(768, (c, 1), row, (192, *column[1:])),
        _chain(768, (c, 1), column, row, column, (192, *row[1:])),
        _chain(768, (192, 1)),
    )


class Inception(nn.Module):
    """Pictures to 2048 features each; frozen, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _chain(3, (32, 3, 2), (32, 3), (64, 3, 1, 1))
        self.widen = _chain(64, (80, 1), (192, 3))
        self.blocks = nn.Sequential(
            _block_35(192, 32),
            _block_35(256, 64),
            _block_35(288, 64),
            _Grid(
                _chain(288, (384, 3, 2)),
                _chain(288, (64, 1), (96, 3, 1, 1), (96, 3, 2)),
                shrink=True,
            ),
            *(_block_17(channels) for channels in (128, 160, 160, 192)),
            _Grid(
                _chain(768, (192, 1), (320, 3, 2)),
                _chain(
                    768, (192, 1), (192, (1, 7), 1, (0, 3)), (192, (7, 1), 1, (3, 0)), (192, 3, 2)
                ),
                shrink=True,
            ),
            _Fan(1280, maximum=False),
            _Fan(2048, maximum=True),
        )
        self.requires_grad_(False).eval()

    @classmethod
    def from_store(cls) -> "Inception":
        """Load the weights from the store.

        Raises:
            MissingWeightsError: If the file is not there.
            CheckpointError: If it is of another layout.
        """
        network = cls()
        network.load(official.read(store.path("inception-2015-12-05")))
        return network

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load either known file; both list the units in this class's order.

        Raises:
            CheckpointError: If number or shapes of the units do not fit.
        """
        units = [module for module in self.modules() if isinstance(module, _Unit)]
        try:
            for unit, tensors in zip(units, _units(state), strict=True):
                names = ("conv.weight", "offset", "mean", "variance")
                unit.load_state_dict(dict(zip(names, tensors, strict=True)))
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise official.CheckpointError(
                f"these are not the weights of Inception 2015-12-05: {reason}"
            ) from None

    def forward(self, picture: Tensor) -> Tensor:
        """Compute pool3.

        Args:
            picture: (b, 3, h, w) RGB in [0, 1], any size.

        Returns:
            (b, 2048).
        """
        x = (resize_tf1(picture * 255) - 128) / 128  # (b, 3, 299, 299)
        x = nn.functional.max_pool2d(self.stem(x), 3, stride=2)
        x = nn.functional.max_pool2d(self.widen(x), 3, stride=2)
        return self.blocks(x).mean(dim=(2, 3))


def _units(state: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield weight, offset, mean and variance of each unit in the file's order."""
    for key, weight in state.items():
        if key.endswith(".conv.weight"):  # pytorch-fid; its gains are all one
            prefix = key.removesuffix("conv.weight") + "bn."
            if prefix + "bias" in state:
                names = ("bias", "running_mean", "running_var")
                offset, mean, variance = (state[prefix + name] for name in names)
                yield weight, offset, mean, variance
                continue
        if key.endswith(".weight") and key.removesuffix("weight") + "beta" in state:
            prefix = key.removesuffix("weight")
            offset, mean, variance = (state[prefix + name] for name in ("beta", "mean", "var"))
            yield weight, offset, mean, variance
