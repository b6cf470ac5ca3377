"""TinyViT as MobileSAM's picture encoder: inverted bottlenecks, then attention in windows.

Papers: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV
2022, arXiv:2207.10666; Zhang et al., "Faster Segment Anything", 2023, arXiv:2306.14289 (Sec. 3.2).
Reference code: github.com/ChaoningZhang/MobileSAM @ 34652da (Apache-2.0).

Differences from the reference:
  - the classification head, which no prompt ever reaches, does not exist;
  - sides may be any multiple of 16, windows are padded as the reference pads them;
  - tokens stay in the shape of the picture, (b, h, w, c), between blocks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a (b, c, h, w) map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _conv(
    inputs: int, outputs: int, size: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Convolution without bias, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class InvertedBottleneck(nn.Module):
    """1x1 to four times the channels, 3x3 per channel, 1x1 back; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.body = nn.Sequential(
            _conv(channels, wide),
            nn.GELU(),
            _conv(wide, wide, 3, groups=wide),
            nn.GELU(),
            _conv(wide, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(x + self.body(x))


class Merging(nn.Sequential):
    """Goes over to the next stage's channels; the 3x3 per channel holds the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            _conv(inputs, outputs),
            nn.GELU(),
            _conv(outputs, outputs, 3, stride=stride, groups=outputs),
            nn.GELU(),
            _conv(outputs, outputs),
        )


class WindowAttention(nn.Module):
    """Attention among the pixels of a window, with one learned bias per head and |offset|."""

    offsets: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = (
            torch.arange(window * window) // window,
            torch.arange(window * window) % window,
        )
        down = (rows[:, None] - rows).abs()
        across = (columns[:, None] - columns).abs()
        self.register_buffer("offsets", down * window + across, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (b, n, c), n = window * window
        b, n, c = x.shape
        # the reference lays q, k and v of one head side by side, head after head
        heads = self.qkv(self.norm(x)).view(b, n, self.heads, 3, c // self.heads)
        q, k, v = heads.permute(3, 0, 2, 1, 4)  # each (b, heads, n, c/heads)
        bias = self.biases[:, self.offsets].to(q.dtype)  # (heads, n, n)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    """Window attention, a 3x3 convolution per channel, and a perceptron per pixel."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attention = WindowAttention(channels, heads, window)
        self.local = _conv(channels, channels, 3, groups=channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:  # (b, h, w, c)
        x = x + self._in_windows(x)
        x = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)

    def _in_windows(self, x: Tensor) -> Tensor:
        _, h, w, c = x.shape
        side = self.window
        x = functional.pad(x, (0, 0, 0, -w % side, 0, -h % side))  # the padding takes part
        b, tall, wide, _ = x.shape
        x = x.view(b, tall // side, side, wide // side, side, c).transpose(2, 3)
        x = self.attention(x.reshape(-1, side * side, c))
        x = x.view(b, tall // side, wide // side, side, side, c).transpose(2, 3)
        return x.reshape(b, tall, wide, c)[:, :h, :w]


class TinyViT(nn.Module):
    """Picture to embedding.

    Args:
        channels: Of the four stages, at 1/4, 1/8, 1/16 and 1/16.
        blocks: In each stage.
        heads: Of the attention; the first stage has none, its number is not used.
        windows: Sides of the windows [px of the stage]; the first is not used.
        embedding: Channels of the result.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: Sequence[int],
        heads: Sequence[int],
        windows: Sequence[int],
        embedding: int,
    ) -> None:
        super().__init__()
        first = channels[0]
        self.stem = nn.Sequential(
            _conv(3, first // 2, 3, stride=2), nn.GELU(), _conv(first // 2, first, 3, stride=2)
        )
        self.bottlenecks = nn.Sequential(*(InvertedBottleneck(first) for _ in range(blocks[0])))
        self.mergings = nn.ModuleList(
            Merging(channels[i], channels[i + 1], stride) for i, stride in enumerate((2, 2, 1))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(channels[i], heads[i], windows[i]) for _ in range(blocks[i])))
            for i in (1, 2, 3)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(channels[3], embedding, 1, bias=False),
            ChannelNorm(embedding),
            nn.Conv2d(embedding, embedding, 3, padding=1, bias=False),
            ChannelNorm(embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode.

        Args:
            x: (b, 3, h, w), normalised; sides are multiples of 16.

        Returns:
            (b, embedding, h/16, w/16).
        """
        x = self.bottlenecks(self.stem(x))  # (b, c, h/4, w/4)
        for merging, stage in zip(self.mergings, self.stages, strict=True):
            x = stage(merging(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.neck(x)
