"""Label sets: what the numbers of a label map mean, and the colors that show them.

The order of a set is that of its data set, whatever order a published network uses inside: an
importer turns a network's outputs into this order, so that no label map of another order exists in
Retouch. A label outside the set (its void, or 255) means "nobody knows": it guides nothing
and trains nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The classes of one kind of picture."""

    name: str
    """How configs and commands call it."""
    source: str
    """Data set that defines the order and the colors."""
    names: tuple[str, ...]
    """Class names; the position is the label."""
    colors: tuple[Color, ...]
    """RGB in 0..255, one per class, all different."""
    void: int | None = None
    """The data set's own label for pixels of no class, if it has one."""
    void_color: Color | None = None
    """Its color."""

    def __post_init__(self) -> None:
        table = self.table()
        if len(self.colors) != len(self.names) or len(set(table.values())) != len(table):
            raise ValueError(f"{self.name}: {len(self.names)} names need as many different colors")
        if (self.void is None) != (self.void_color is None):
            raise ValueError(f"{self.name}: void and void_color come together")

    def __len__(self) -> int:
        """Count the classes; void is none."""
        return len(self.names)

    def table(self) -> dict[int, Color]:
        """Map every label that a map may hold, void included, to its color."""
        table = dict(enumerate(self.colors))
        if self.void is not None and self.void_color is not None:
            table[self.void] = self.void_color
        return table

    def index(self, name: str) -> int:
        """Return the label of a class name.

        Raises:
            KeyError: If the set has no such class; the message lists those there are.
        """
        if name not in self.names:
            raise KeyError(f"{self.name} has no class {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)


def _set(
    name: str,
    source: str,
    classes: Mapping[str, Color],
    void: tuple[int, Color] | None = None,
) -> LabelSet:
    index, color = void if void is not None else (None, None)
    return LabelSet(
        name=name,
        source=source,
        names=tuple(classes),
        colors=tuple(classes.values()),
        void=index,
        void_color=color,
    )


_FACES = _set(
    "faces",
    "CelebAMask-HQ; left and right are the person's own as the data set says them",
    {
        "background": (0, 0, 0),
        "skin": (204, 0, 0),
        "nose": (76, 153, 0),
        "eyeglasses": (204, 204, 0),
        "left eye": (51, 51, 255),
        "right eye": (204, 0, 204),
        "left brow": (0, 255, 255),
        "right brow": (255, 204, 204),
        "left ear": (102, 51, 0),
        "right ear": (255, 0, 0),
        "mouth": (102, 204, 0),
        "upper lip": (255, 255, 0),
        "lower lip": (0, 0, 153),
        "hair": (0, 0, 204),
        "hat": (255, 51, 153),
        "earring": (0, 204, 204),
        "necklace": (0, 51, 0),
        "neck": (255, 153, 51),
        "cloth": (0, 204, 0),
    },
)
_OUTDOOR = _set(
    "outdoor",
    "OutdoorScenes (SFTGAN)",
    {
        "background": (153, 153, 153),
        "sky": (0, 255, 255),
        "water": (109, 158, 235),
        "grass": (183, 225, 205),
        "mountain": (153, 0, 255),
        "building": (17, 85, 204),
        "plant": (106, 168, 79),
        "animal": (224, 102, 102),
    },
    void=(255, (255, 255, 255)),
)
_FACADES = _set(
    "facades",
    "CMP Facade database",
    {
        "background": (0, 0, 221),
        "facade": (0, 47, 255),
        "window": (0, 127, 255),
        "door": (0, 206, 255),
        "cornice": (32, 255, 223),
        "sill": (112, 255, 142),
        "balcony": (191, 255, 62),
        "blind": (255, 239, 0),
        "deco": (255, 159, 0),
        "molding": (255, 79, 0),
        "pillar": (255, 0, 0),
        "shop": (172, 0, 0),
    },
)
_STREET = _set(
    "street",
    "CamVid, the 11 classes of SegNet",
    {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    },
    void=(11, (0, 0, 0)),
)

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType(
    {labels.name: labels for labels in (_FACES, _OUTDOOR, _FACADES, _STREET)}
)
"""Every label set, by name."""


def label_set(name: str) -> LabelSet:
    """Return a label set.

    Raises:
        ValueError: If there is no such set; the message lists those there are.
    """
    if name not in LABEL_SETS:
        raise ValueError(f"labels must be one of {', '.join(LABEL_SETS)}, got {name!r}")
    return LABEL_SETS[name]
