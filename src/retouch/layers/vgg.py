"""VGG-19 feature maps for perceptual and style losses.

Two public files hold a VGG-19 (Simonyan & Zisserman 2014, arXiv:1409.1556): torchvision's
`vgg19-dcbb9e9d.pth`, and the authors' own with each channel scaled to unit mean activation (Gatys
et al. 2016). A loss weight found with one does not carry over to the other:
`retouch.training.calibration` has the factors.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_DEPTHS = (2, 2, 4, 4, 4)
Scaling = Literal["torchvision", "unit-mean"]


class VGG19(nn.Module):
    """The convolutions of VGG-19, frozen.

    Args:
        widths: Channels of the five stages; the published network has (64, 128, 256, 512, 512).
        scaling: `torchvision`: input RGB in [0, 1] as it is, zero padding, floor pooling: what the
            official code of ISNet and SEM-Net feeds (no ImageNet normalisation). `unit-mean`: input
            becomes BGR * 255 minus the Caffe mean and pooling rounds up, as the file's authors did;
            padding is zero here too (theirs reflects, which only changes the rim and is four
            times slower).
    """

    def __init__(
        self, widths: tuple[int, ...] = (64, 128, 256, 512, 512), scaling: Scaling = "torchvision"
    ) -> None:
        super().__init__()
        self.scaling: Scaling = scaling
        self.names: list[str] = []
        convs: list[nn.Conv2d] = []
        previous = 3
        for stage, (depth, width) in enumerate(zip(_DEPTHS, widths, strict=True), start=1):
            for index in range(1, depth + 1):
                convs.append(nn.Conv2d(previous, width, 3, padding=1))
                self.names.append(f"relu{stage}_{index}")
                previous = width
        self.convs = nn.ModuleList(convs)
        if scaling == "unit-mean":
            self.entry = nn.Conv2d(3, 3, 1)
        self.requires_grad_(False)

    def width(self, name: str) -> int:
        """Channels of a map, such as `relu3_1`."""
        return cast(nn.Conv2d, self.convs[self.names.index(name)]).out_channels

    def forward(self, image: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Compute the feature maps after the named ReLUs.

        Args:
            image: (b, 3, h, w) RGB in [0, 1].
            names: Such as `relu1_1`; the pass ends at the deepest.

        Returns:
            Feature maps (b, c, h/2^(stage-1), w/2^(stage-1)) by name.

        Raises:
            ValueError: If a name is not a ReLU of VGG-19.
        """
        wanted = set(names)
        if unknown := wanted.difference(self.names):
            raise ValueError(f"VGG-19 has no {sorted(unknown)}; it has {', '.join(self.names)}")
        x = self.entry(image) if self.scaling == "unit-mean" else image
        found: dict[str, Tensor] = {}
        for name, conv in zip(self.names, self.convs, strict=True):
            if name.endswith("_1") and name != "relu1_1":
                x = functional.max_pool2d(x, 2, ceil_mode=self.scaling == "unit-mean")
            x = functional.relu(conv(x), inplace=True)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "VGG19":
        """Build from torchvision's file (`features.N.weight`) or the unit-mean file (`N.weight`).

        Raises:
            ValueError: If the tensors are of neither file.
        """
        scaling: Scaling = "unit-mean" if "0.weight" in state else "torchvision"
        prefix = "" if scaling == "unit-mean" else "features."
        keys = [k for k in state if k.startswith(prefix) and k.endswith(".weight")]
        keys = sorted((k for k in keys if state[k].ndim == 4), key=lambda k: int(k.split(".")[-2]))
        entry = keys.pop(0) if scaling == "unit-mean" else ""
        if len(keys) != sum(_DEPTHS):
            raise ValueError(f"not a VGG-19: {len(keys)} convolutions found, 16 expected")
        ends = torch.tensor(_DEPTHS).cumsum(0).tolist()
        network = cls(tuple(state[keys[end - 1]].shape[0] for end in ends), scaling)
        ours: dict[str, Tensor] = {}
        for index, key in enumerate(keys):
            ours[f"convs.{index}.weight"] = state[key]
            ours[f"convs.{index}.bias"] = state[key.replace(".weight", ".bias")]
        if scaling == "unit-mean":
            ours["entry.weight"] = state[entry]
            ours["entry.bias"] = state[entry.replace(".weight", ".bias")]
        network.load_state_dict(ours)
        return network.eval()
