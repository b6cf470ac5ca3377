"""Checkpoints of PEN-Net's authors: generators, renamed."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_NAMES = (
    (re.compile(r"dw_conv0(\d)\.0\."), "down.{}.conv."),
    (re.compile(r"at_conv0(\d)\.conv0(\d)\.0\."), "attend.{}.convs.{}."),
    (re.compile(r"up_conv0(\d)\.0\."), "up.{}."),
    (re.compile(r"torgb(\d)\.0\."), "to_rgb.{}."),
    (re.compile(r"decoder\."), "head."),
)


def pennet_from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert PEN-Net's `gen_NNNNN.pth`.

    Returns:
        Config fields and our state dict. Keys that PEN-Net does not have stay as they are, for
        strict loading to name them.
    """
    fields: dict[str, Any] = {"residual_blocks": 0, "attention_kernel": 3, "deepest_slope": 0.0}
    fields["width"] = state["dw_conv01.0.weight"].shape[0]
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        for pattern, replacement in _NAMES:
            if found := pattern.match(key):
                level, *rest = [int(number) for number in found.groups()] or [1]
                name = replacement.format(level - 1, *rest) + key[found.end() :]
        ours[name] = value
    return fields, ours


def is_official_pennet(state: Mapping[str, Tensor]) -> bool:
    """Whether a bare state dict is PEN-Net's generator."""
    return {"dw_conv06.0.weight", "torgb5.0.weight", "decoder.2.weight"} <= state.keys()
