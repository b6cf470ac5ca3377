"""How a hole is filled, whatever fills it."""

from dataclasses import dataclass

from retouch.pipeline.devices import OptionError


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """How a hole is filled; the defaults change nothing outside the mask."""

    dilate: int = 0
    """Widen the holes first [px]; 3 to 5 helps when an object is removed."""
    feather: int = 0
    """Fade the fill in over the outermost pixels of the widened hole [px], at most `dilate`."""
    seed: int = 0
    """For networks that draw random numbers."""
    refine: bool = True
    """Copy from like places of the picture: the finest grain, and what networks smear."""

    def __post_init__(self) -> None:
        for name in ("dilate", "feather"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must be at least 0 px, got {getattr(self, name)}")
        if self.feather > self.dilate:
            raise OptionError(
                f"feather ({self.feather} px) must not be wider than dilate ({self.dilate} px):"
                " it fades inside the widened hole, known pixels stay as they are"
            )
