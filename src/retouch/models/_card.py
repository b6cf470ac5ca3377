"""What the rest of the package may ask about a network without knowing which one it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Official:
    """One kind of official checkpoint and how it becomes ours."""

    what: str
    """What the file is, in words: `SEM-Net generator (WACV 2025)`."""
    recognise: Callable[[Mapping[str, Tensor]], bool]
    """Whether a bare state dict (no wrappers, no `module.` prefix) is of this kind."""
    convert: Callable[[Mapping[str, Tensor]], tuple[dict[str, Any], dict[str, Tensor]]]
    """Maps such a state dict to (config fields, our state dict); knows the dead keys by name."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one network."""

    model: type[nn.Module]
    """The class; `model(config)` builds it with random weights."""
    config: type[Any]
    """Its frozen dataclass of hyper-parameters."""
    paper: str
    """Title, venue and arXiv id or DOI; for a network of our own, where it is described."""
    license: str
    """SPDX id or terms of the official weights, which may differ from the code's."""
    objective: Callable[..., nn.Module]
    """`objective(objective_config, features)`: named terms for the generator and the critics."""
    objective_config: type[Any]
    """Its frozen dataclass; `weights` holds the published weight of each generator term."""
    tasks: tuple[str, ...] = ("inpaint",)
    """`inpaint`, `deblur`."""
    multiple_of: int = 1
    """Height and width are padded up to a multiple of this [px]."""
    min_size: int = 1
    """Smallest height and width [px]."""
    working_size: int = 512
    """Side to which the pipeline brings one crop, if it can choose [px]."""
    fixed_size: int | None = None
    """The only side the network accepts, if there is just one [px]."""
    context: Callable[[Any], int | None] = lambda config: None
    """Maps a config to how far around itself an output pixel depends on the picture [px], counted
    from the borders of its cell of `multiple_of` px; None: everywhere. A network that is local
    runs only round the holes, in tiles that see at most so much around them, and agree."""
    reach: int | None = None
    """Thickest hole that is filled well at full size [px]; thicker ones are filled smaller first.
    None: half the working size."""
    rim: bool = False
    """Fill the rim of thicker holes apart, larger than their middle: two fills for one, where
    measured to be better."""
    patches: bool = False
    """Make the middle of thick holes of the picture's patches also without `rim`, where measured
    to be better."""
    start_colours: Callable[[Mapping[str, Tensor]], None] | None = None
    """Gives a trained state dict the start that the config's `colours` gives random weights."""
    one_size_graph: bool = False
    """True if an exported graph holds for one height and width only: loops are laid out for it."""
    mirror: bool = False
    """Average with the mirrored picture's pass: twice the cost, where measured to be better."""
    labels: bool = False
    """True if `forward` takes label maps."""
    cost: float | None = None
    """CPU seconds per megapixel of a crop at the working size, with all passes that are made, on
    one core with AVX512-BF16 and AMX (`benchmarks/speed.py`); None: unknown."""
    official: Mapping[str, Official] = field(default_factory=dict[str, Official])
    """Importers of official checkpoints, by name."""
    small: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Config fields of a reduced-width network, for tests and tiny runs."""
