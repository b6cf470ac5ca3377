"""What a person decides when the server starts."""

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the server listens, what it offers, and its limits."""

    host: str = "127.0.0.1"
    port: int = 8480
    token: str | None = None
    """Secret that every request must carry; None only on the loopback interface."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which the server may be called."""
    network: str | Path = "dilated-photos"
    """What fills unless the client asks for another: a name, or a weight file."""
    devices: tuple[str, ...] = ("auto",)
    """One worker thread each."""
    offered: tuple[Path, ...] = ()
    """Pictures named on the command line; clients see their names and numbers only."""
    output: Path | None = None
    """Folder into which offered pictures are saved; None: beside the picture, as NAME_filled."""
    max_upload: int = 256 << 20
    """Largest request body [byte]."""
    max_pixels: int = 150_000_000
    """Largest picture."""
    memory: int = 2 << 30
    """All that is kept between requests; what was idle longest is forgotten first [byte]."""
    idle: float = 3600.0
    """A picture or session that nobody asked for in this time is forgotten [s]."""
    queue: int = 16
    """Jobs that may wait or run; more are answered with 429."""
    together: int = 4
    """Fills of pictures of one size that one worker does at once, batching the network's passes."""

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.token:
            raise ValueError(f"a token is needed to listen on {self.host!r}")
        for name in ("max_upload", "max_pixels", "memory", "queue", "together"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK
