"""MobileSAM: click on a thing to select it.

Papers: Kirillov et al., "Segment Anything", ICCV 2023, arXiv:2304.02643 (prompt encoder and mask
decoder: Appendix A); Zhang et al., "Faster Segment Anything", 2023, arXiv:2306.14289 (its small
picture encoder). Reference code: github.com/ChaoningZhang/MobileSAM @ 34652da (Apache-2.0), whose
file `mobile_sam.pt` loads.

Differences from the reference:
  - the input is RGB in [0, 1]; normalising and padding to a square happen inside;
  - points and corners of boxes are one list of prompts with kinds;
  - all four masks are returned, the caller chooses.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.segmentation._card import Official
from retouch.segmentation.tinyvit import ChannelNorm, TinyViT

BESIDE, INSIDE, TOP_LEFT, BOTTOM_RIGHT = range(4)
"""Kinds of prompts: clicks, and the corners of a box."""
_MASKS = 4
"""One mask for clear prompts, three for one ambiguous click: part, thing, whole."""


@dataclass(frozen=True, kw_only=True)
class MobileSAMConfig:
    """Hyper-parameters; the defaults are those of `mobile_sam.pt`."""

    side: int = 1024
    """Pictures are seen at this longer side [px]; a multiple of 16."""
    channels: tuple[int, int, int, int] = (64, 128, 160, 320)
    """Of the encoder's stages."""
    blocks: tuple[int, int, int, int] = (2, 2, 6, 2)
    """In the encoder's stages."""
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    """Of the encoder's attention."""
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    """Of the encoder's attention [px of the stage]."""
    embedding: int = 256
    """Channels of the embedding and of all tokens."""
    layers: int = 2
    """Of the two-way transformer."""
    perceptron: int = 2048
    """Width inside the transformer's perceptrons."""

    def __post_init__(self) -> None:
        if self.side < 16 or self.side % 16:
            raise ValueError(f"side must be a multiple of 16, got {self.side}")
        if self.embedding < 8 or self.embedding % 16:
            raise ValueError(f"embedding must be a multiple of 16, got {self.embedding}")


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Masks that a prompt may mean."""

    logits: Tensor
    """(b, 4, side/4, side/4), over 0 = the thing: the one for clear prompts, then part, thing,
    whole."""
    quality: Tensor
    """(b, 4): the IoU that the network expects of each."""


def _perceptron(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, outputs),
    )


class Attention(nn.Module):
    """Attention from one set of tokens to another, inside `width` channels, with 8 heads."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(channels, width)
        self.k = nn.Linear(channels, width)
        self.v = nn.Linear(channels, width)
        self.out = nn.Linear(width, channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # each (b, n, c)
        heads = [
            proj(x).unflatten(-1, (8, -1)).transpose(1, 2)  # (b, 8, n, width/8)
            for proj, x in ((self.q, q), (self.k, k), (self.v, v))
        ]
        x = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.out(x.transpose(1, 2).flatten(2))


class TwoWayLayer(nn.Module):
    """Tokens look at each other and at the picture, then the picture at the tokens (Appendix A)."""

    def __init__(self, channels: int, perceptron: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.among = Attention(channels, channels)
        self.to_picture = Attention(channels, channels // 2)
        self.to_tokens = Attention(channels, channels // 2)
        self.mlp = nn.Sequential(
            nn.Linear(channels, perceptron), nn.ReLU(), nn.Linear(perceptron, channels)
        )
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, pixels: Tensor, prompts: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`prompts` and `places` say what tokens and pixels stand for; each q and k has them."""
        if self.first:  # the tokens are the prompts themselves
            tokens = self.among(tokens, tokens, tokens)
        else:
            q = tokens + prompts
            tokens = tokens + self.among(q, q, tokens)
        tokens = self.norm1(tokens)
        tokens = tokens + self.to_picture(tokens + prompts, pixels + places, pixels)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        pixels = pixels + self.to_tokens(pixels + places, tokens + prompts, tokens)
        return tokens, self.norm4(pixels)


class PromptEncoder(nn.Module):
    """Turns clicks, boxes and an earlier mask into embeddings."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, channels // 2))
        self.kinds = nn.Parameter(torch.randn(4, channels))
        self.nothing = nn.Parameter(torch.randn(1, channels))
        self.no_mask = nn.Parameter(torch.randn(1, channels))
        self.mask = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            ChannelNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv2d(16, channels, 1),
        )

    def at(self, places: Tensor) -> Tensor:
        """Encode places (..., 2), (x, y) in [0, 1], by random frequencies: (..., channels)."""
        angles = 2 * math.pi * (2 * places - 1) @ self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def points(self, places: Tensor, kinds: Tensor) -> Tensor:
        """Encode places (b, n, 2) in [0, 1] of kinds (b, n); an empty one ends bare clicks."""
        found = self.at(places) + self.kinds[kinds]
        if (kinds >= TOP_LEFT).any():
            return found
        return torch.cat([found, self.nothing.expand(len(found), 1, -1)], dim=1)

    def grid(self, side: int) -> Tensor:
        """Encode the places of a square embedding: (1, side * side, channels)."""
        middle = (torch.arange(side, device=self.frequencies.device) + 0.5) / side
        x, y = torch.meshgrid(middle, middle, indexing="xy")
        return self.at(torch.stack([x, y], dim=-1)).flatten(0, 1)[None]


class MaskDecoder(nn.Module):
    """Turns an embedded picture and prompts into masks and their expected quality."""

    def __init__(self, channels: int, perceptron: int, layers: int) -> None:
        super().__init__()
        self.quality_token = nn.Parameter(torch.randn(1, channels))
        self.mask_tokens = nn.Parameter(torch.randn(_MASKS, channels))
        self.layers = nn.ModuleList(
            TwoWayLayer(channels, perceptron, first=index == 0) for index in range(layers)
        )
        self.last = Attention(channels, channels // 2)
        self.norm = nn.LayerNorm(channels)
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, 2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2),
            nn.GELU(),
        )
        self.weights = nn.ModuleList(_perceptron(channels, channels // 8) for _ in range(_MASKS))
        self.quality = _perceptron(channels, _MASKS)

    def forward(self, embedding: Tensor, prompts: Tensor, places: Tensor) -> Guesses:
        """Decode: embedding (b, c, h, w), prompts (b, n, c), places (1, h*w, c)."""
        own = torch.cat([self.quality_token, self.mask_tokens]).expand(len(prompts), -1, -1)
        prompts = torch.cat([own, prompts], dim=1)
        tokens, pixels = prompts, embedding.flatten(2).transpose(1, 2)  # (b, h*w, c)
        for layer in self.layers:
            tokens, pixels = layer(tokens, pixels, prompts, places)
        tokens = self.norm(tokens + self.last(tokens + prompts, pixels + places, pixels))
        picture = self.enlarge(pixels.transpose(1, 2).unflatten(2, embedding.shape[-2:]))
        weights = [net(tokens[:, 1 + index]) for index, net in enumerate(self.weights)]
        logits = torch.einsum("bmc,bchw->bmhw", torch.stack(weights, dim=1), picture)
        return Guesses(logits=logits, quality=self.quality(tokens[:, 0]))


class MobileSAM(nn.Module):
    """Encodes a picture once, then finds what any prompts mean."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MobileSAMConfig = MobileSAMConfig()) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = TinyViT(c.channels, c.blocks, c.heads, c.windows, c.embedding)
        self.prompts = PromptEncoder(c.embedding)
        self.decoder = MaskDecoder(c.embedding, c.perceptron, c.layers)
        mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1) / 255
        deviation = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1) / 255
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def encode(self, image: Tensor) -> Tensor:
        """Encode a picture.

        Args:
            image: (b, 3, h, w) RGB in [0, 1]; the longer side is `config.side`.

        Returns:
            (b, embedding, side/16, side/16); the picture lies at its top left.

        Raises:
            ValueError: If the picture has another size.
        """
        h, w = image.shape[-2:]
        side = self.config.side
        if max(h, w) != side:
            raise ValueError(f"the longer side must be {side} px, got {h}x{w}")
        x = (image - self.mean) / self.deviation
        return self.encoder(functional.pad(x, (0, side - w, 0, side - h)))

    def decode(
        self, embedding: Tensor, places: Tensor, kinds: Tensor, earlier: Tensor | None = None
    ) -> Guesses:
        """Find what prompts mean.

        Args:
            embedding: (b, embedding, side/16, side/16), see `encode`.
            places: (b, n, 2), (x, y) [px of the encoded picture], (0, 0) is the first pixel.
            kinds: (b, n) of `BESIDE`, `INSIDE`, `TOP_LEFT`, `BOTTOM_RIGHT`.
            earlier: (b, 1, side/4, side/4) logits of an earlier guess, or None.

        Returns:
            Four masks and their quality.
        """
        prompts = self.prompts.points((places + 0.5) / self.config.side, kinds)
        if earlier is None:
            dense = self.prompts.no_mask[..., None, None]
        else:
            dense = self.prompts.mask(earlier)
        grid = self.prompts.grid(self.config.side // 16)
        return self.decoder(embedding + dense, prompts, grid)


_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""The encoder's ImageNet classifier, which no prompt reaches."""
_KINDS = "prompt_encoder.point_embeddings."
_NAMES = (
    (r"^image_encoder\.patch_embed\.seq\.", "encoder.stem."),
    (r"^image_encoder\.layers\.0\.blocks\.(\d)\.conv", r"encoder.bottlenecks.\1.body.conv"),
    (r"^image_encoder\.layers\.(\d)\.downsample\.", r"encoder.mergings.\1."),
    (r"^image_encoder\.layers\.1\.blocks\.", "encoder.stages.0."),
    (r"^image_encoder\.layers\.2\.blocks\.", "encoder.stages.1."),
    (r"^image_encoder\.layers\.3\.blocks\.", "encoder.stages.2."),
    (r"^image_encoder\.", "encoder."),
    (r"\.conv1\.", ".0."),
    (r"\.conv2\.", ".2."),
    (r"\.conv3\.", ".4."),
    (r"\.c\.weight$", ".0.weight"),
    (r"\.bn\.", ".1."),
    (r"\.attn\.", ".attention."),
    (r"\.attention_biases$", ".biases"),
    (r"\.local_conv\.", ".local."),
    (r"\.mlp\.norm\.", ".mlp.0."),
    (r"\.mlp\.fc1\.", ".mlp.1."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "prompts.frequencies"),
    (r"^prompt_encoder\.not_a_point_embed\.weight$", "prompts.nothing"),
    (r"^prompt_encoder\.no_mask_embed\.weight$", "prompts.no_mask"),
    (r"^prompt_encoder\.mask_downscaling\.", "prompts.mask."),
    (r"^mask_decoder\.(?:transformer\.)?", "decoder."),
    (r"\.iou_token\.weight$", ".quality_token"),
    (r"\.mask_tokens\.weight$", ".mask_tokens"),
    (r"\.final_attn_token_to_image\.", ".last."),
    (r"\.norm_final_attn\.", ".norm."),
    (r"\.output_upscaling\.", ".enlarge."),
    (r"\.iou_prediction_head\.", ".quality."),
    (r"\.output_hypernetworks_mlps\.", ".weights."),
    (r"^(decoder\.(?:quality|weights\.\d)\.)layers\.0\.", r"\g<1>0."),
    (r"^(decoder\.(?:quality|weights\.\d)\.)layers\.1\.", r"\g<1>2."),
    (r"^(decoder\.(?:quality|weights\.\d)\.)layers\.2\.", r"\g<1>4."),
    (r"\.self_attn\.", ".among."),
    (r"\.cross_attn_token_to_image\.", ".to_picture."),
    (r"\.cross_attn_image_to_token\.", ".to_tokens."),
    (r"\.(q|k|v|out)_proj\.", r".\1."),
    (r"\.mlp\.lin1\.", ".mlp.0."),
    (r"\.mlp\.lin2\.", ".mlp.2."),
)


def _rename(key: str) -> str:
    for old, new in _NAMES:
        key = re.sub(old, new, key)
    return key


def recognise(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is MobileSAM's own: SAM's names round TinyViT's."""
    return "image_encoder.patch_embed.seq.0.c.weight" in state and f"{_KINDS}0.weight" in state


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rename the keys of `mobile_sam.pt`; the config is always the default one."""
    kept = {k: v for k, v in state.items() if not k.startswith((*_CLASSIFIER, _KINDS))}
    renamed = {_rename(key): value for key, value in kept.items()}
    renamed["prompts.kinds"] = torch.cat([state[f"{_KINDS}{kind}.weight"] for kind in range(4)])
    return {}, renamed


OFFICIAL = Official(
    what="mobile_sam.pt of github.com/ChaoningZhang/MobileSAM",
    recognise=recognise,
    convert=from_official,
)
