"""How the semantic network learns: its critic and its three stages (Sec. III of the paper).

The paper trains both stages with L1 and perceptual terms of weight 1, the second also against a
critic with weight 0.01: first the coarse stage, then the fine one with a frozen encoder, then both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from retouch.data.batch import Batch
from retouch.layers.vgg import VGG19
from retouch.losses.perceptual import compared, perceptual_terms
from retouch.losses.reconstruction import l1

if TYPE_CHECKING:
    from retouch.models.semantic import Encoded, Semantic

_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The pictures of both stages, (b, 3, h, w) RGB in [0, 1]."""

    coarse: Tensor
    fine: Tensor | None


class SemanticCritic(nn.Module):
    """Patch critic of whole pictures; a logit sees 94x94 px (the paper says 70x70)."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels, 8 * channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.head = nn.Conv2d(8 * channels, 1, 4, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Judge a picture.

        Args:
            image: (b, 3, h, w) RGB in [0, 1].

        Returns:
            (b, 1, h/16, w/16), unbounded; 1 means real.
        """
        x = image * 2 - 1
        for layer in self.layers:
            x = functional.leaky_relu(functional.instance_norm(layer(x)), 0.2)
        return self.head(functional.pad(x, (1, 0, 1, 0)))


def critic_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the reference's critic (`networks.Discriminator`, 9 tensors)."""
    layers = {"0": "layers.0", "3": "layers.1", "6": "layers.2", "9": "layers.3", "13": "head"}
    parts = {key: key.split(".") for key in state}  # model.N.weight
    return {f"{layers[n]}.{name}": state[key] for key, (_, n, name) in parts.items()}


@dataclass(frozen=True, kw_only=True)
class SemanticObjectiveConfig:
    """What the generator pays for."""

    STAGES: ClassVar = ("coarse", "fine", "joint")

    stage: Literal["coarse", "fine", "joint"] = "joint"
    """`coarse`: first stage only; `fine`: second stage, encoder frozen; `joint`: both."""
    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "coarse_l1": 1.0,
            "coarse_content": 1.0,
            "l1": 1.0,
            "content": 1.0,
            "unit_content": 0.0,
            "adversarial": 0.01,
        }
    )
    """Weight of each generator term, the paper's; content fits torchvision's VGG-19. What needs
    VGG-19 and weighs nothing is not computed; `unit_content` of the completed picture is ours."""
    critic_channels: int = 64
    """Channels of the critic's first layer."""
    proposed: float = 0.0
    """Share of the pictures whose map is what the segmenter proposes from the coarse fill, as it is
    in a fill without a map, in [0, 1]. Ours: the paper trains with true maps only."""

    def __post_init__(self) -> None:
        if self.stage not in self.STAGES:
            raise ValueError(f"stage must be coarse, fine or joint, got {self.stage!r}")
        if not 0 <= self.proposed <= 1:
            raise ValueError(f"proposed must lie in [0, 1], got {self.proposed}")


class SemanticObjective(nn.Module):
    """L1 and VGG-19 features of the raw pictures of both stages, least squares against a critic.

    Args:
        config: Stage, weights and choices.
        features: A `VGG19`, or None to train without the content terms.
    """

    def __init__(
        self,
        config: SemanticObjectiveConfig = SemanticObjectiveConfig(),
        features: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        critics = (
            {} if config.stage == "coarse" else {"critic": SemanticCritic(config.critic_channels)}
        )
        self.critics = nn.ModuleDict(critics)

    def trainable(self, network: "Semantic") -> list[nn.Parameter]:
        """Parameters of the stage: the encoder's, the decoder's or both.

        Raises:
            ValueError: If the stage needs a decoder, or proposals a segmenter, and there is none.
        """
        if self.config.stage == "coarse":
            return list(network.encoder.parameters())
        if network.decoder is None:
            raise ValueError(f"stage {self.config.stage} needs a network with guided = true")
        if self.config.proposed and network.segmenter is None:
            raise ValueError("proposed maps need a segmenter: name one in model.segmenter")
        if self.config.stage == "fine":
            return list(network.decoder.parameters())
        return list(network.parameters())

    def predict(self, network: "Semantic", batch: Batch) -> Stages:
        """One pass of the stage's parts.

        The fine picture is guided by the batch's label maps; where it has none, by what the
        network's segmenter sees in the true pictures (the paper trains with true maps).
        """
        stage = self.config.stage
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage != "fine"):
            encoded = network.encode(batch.image, batch.mask)
        if stage == "coarse":
            return Stages(coarse=encoded.coarse, fine=None)
        labels = self._labels(network, batch, encoded)
        return Stages(coarse=encoded.coarse, fine=network.decode(encoded, labels))

    def _labels(self, network: "Semantic", batch: Batch, encoded: "Encoded") -> Tensor:
        labels = network.label(batch.image) if batch.labels is None else batch.labels
        drawn = torch.rand(len(labels), device=labels.device) < self.config.proposed
        if not drawn.any():
            return labels
        own = network.propose(encoded, batch.image, batch.mask)
        return torch.where(drawn[:, None, None], own, labels)

    def generator_terms(self, outputs: Stages, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted scalars of the stage; content only with `features`."""
        terms: dict[str, Tensor] = {}
        if self.config.stage != "fine":
            terms["coarse_l1"] = l1(outputs.coarse, batch.image)
            terms |= self._content("coarse_content", outputs.coarse, batch.image)
        if outputs.fine is not None:
            terms["l1"] = l1(outputs.fine, batch.image)
            terms |= self._content("content", outputs.fine, batch.image)
            completed = outputs.fine * batch.mask + batch.image * (1 - batch.mask)
            unit = {"unit_content": self.config.weights.get("unit_content", 0.0)}
            pair = (self._scaled(completed), self._scaled(batch.image))
            terms |= perceptual_terms(self.features, *pair, _LAYERS, (), unit)
            terms["adversarial"] = _distance(self.critics["critic"](outputs.fine), 1)
        return terms

    def critic_terms(self, outputs: Stages, batch: Batch) -> dict[str, Tensor]:
        """Least squares: 1 for true pictures, 0 for fine ones (Eq. 8, its labels set right)."""
        if outputs.fine is None:
            return {}
        critic = self.critics["critic"]
        real, fake = critic(batch.image), critic(outputs.fine.detach())
        return {"critic": _distance(real, 1) + _distance(fake, 0)}

    def _content(self, name: str, picture: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Squared distance of feature maps per c*h*w, summed over the layers, if it counts."""
        if self.features is None or not self.config.weights.get(name):
            return {}
        pair = (self._scaled(picture), self._scaled(target))
        return {name: compared(_squared, self.features, *pair, _LAYERS)}

    def _scaled(self, image: Tensor) -> Tensor:
        """ImageNet's normalisation, but for the unit-mean VGG-19, which has its own."""
        if isinstance(self.features, VGG19) and self.features.scaling == "unit-mean":
            return image
        mean = image.new_tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        return (image - mean) / image.new_tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def _squared(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    differences = [functional.mse_loss(prediction[key], target[key]) for key in _LAYERS]
    return torch.stack(differences).sum()


def _distance(logits: Tensor, target: float) -> Tensor:
    return (logits - target).square().mean()
