"""Checkpoints of SEM-Net's authors: dead layers dropped, the rest renamed and split."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_DEAD = re.compile(
    r"(encoder_level\d|latent|decoder_level\d)\.\d+\.(ffn1|norm1_1)\.|refinement\.\d+\."
    r"|output_before\.weight$|down\d_\d\.proj\.weight$"
)
"""Layers that the reference builds and never calls (41 % of its parameters)."""
_NAMES = (
    (r"^patch_embed\.gproj1\.", "embed."),
    (r"^output\.0\.", "output."),
    *((rf"^encoder_level{i + 1}\.", f"encoder.{i}.blocks.") for i in range(3)),
    (r"^latent\.", "latent.blocks."),
    *((rf"^decoder_level{3 - i}\.", f"decoder.{i}.blocks.") for i in range(3)),
    *((rf"^down{i + 1}_{i + 2}\.body\.0\.", f"down.{i}.") for i in range(3)),
    *((rf"^up{4 - i}_{3 - i}\.body\.0\.", f"up.{i}.") for i in range(3)),
    *((rf"^reduce_chan_level{3 - i}\.", f"reduce.{i}.") for i in range(2)),
    (r"\.norm([12])\.body\.", r".norm\1."),
    (r"\.attn\.norm(2?)\.", r".attn.mamba\1.norm."),
    (r"\.attn\.mamba\.", ".smb.horizontal."),
    (r"\.attn\.mamba2\.", ".smb.vertical."),
    (r"\.ffn\.", ".sefn."),
    (r"\.(in_proj|project_in)\.", ".{}_in."),
    (r"\.(out_proj|project_out)\.", ".out."),
    (r"\.dwconv\.", ".{}_conv."),
    (r"\.dwconv_afterfusion\.", ".fusion_conv."),
    (r"\.sefn\.conv\.(\d)\.(?:body\.)?", r".sefn.guide.\1."),
    (r"\.conv1d\.weight$", ".taps"),
    (r"\.conv1d\.bias$", ".taps_bias"),
    (r"\.x_proj\.", ".select."),
    (r"\.dt_proj\.", ".delta."),
    (r"\.A_log$", ".a_log"),
    (r"\.D$", ".d"),
)
"""Official names and ours; `{}` stands for `content` and `gate`, the halves of the tensor."""


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether a bare state dict is that of the reference's generator."""
    return {"patch_embed.gproj1.weight", "encoder_level1.0.attn.mamba.A_log"} <= state.keys()


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert the `generator` of `InpaintingModel_gen.pth`, or one trained without a mask.

    Returns:
        Config fields, and our state dict without the dead layers. Keys that no generator has stay
        as they are, for strict loading to name them.
    """
    channels, inputs = state["patch_embed.gproj1.weight"].shape[:2]
    stages = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    blocks = tuple(sum(f"{s}.{i}.norm1.body.weight" in state for i in range(99)) for s in stages)
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        if _DEAD.match(key):
            continue
        name = key
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if name.endswith(".taps"):
            value = value[:, 0]
        elif value.shape[2:] == (1, 1):  # a 1x1 convolution is a linear layer here
            value = value[:, :, 0, 0]
        halves = value.chunk(2) if "{}" in name else (value,)
        for half, part in zip(("content", "gate"), halves, strict=False):
            ours[name.replace("{}", half)] = part.contiguous()
    task = "deblur" if inputs == 3 else "inpaint"
    return {"task": task, "channels": channels, "blocks": blocks}, ours
