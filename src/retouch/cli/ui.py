"""`retouch ui`: the painter and semantic editor in the browser."""

import secrets
import socket
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def ui(
    picture: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8480,
    token: Annotated[str | None, Parameter(env_var="RETOUCH_TOKEN")] = None,
    network: str = "dilated-photos",
    device: str = "auto",
    output: Path | None = None,
    browser: bool = True,
    max_pixels: int = 150_000_000,
    allowed_host: tuple[str, ...] = (),
) -> None:
    """Open a page on this machine in which one brushes away what should go.

    Nothing leaves the machine, and nobody else can reach the page: it listens on the loopback
    interface only. For any other --host a token is needed; the address that is printed carries it.

    Args:
        picture: A picture to begin with, or a folder of pictures (a film strip).
        host: Interface to listen on; 0.0.0.0 for all.
        port: 0 takes any free one.
        token: Secret that every request must carry; made up if one is needed and none is given.
        network: Name of weights, or a .safetensors file.
        device: auto, cpu, cuda, cuda:1, mps, openvino.
        output: Folder for results of a folder; default: NAME_filled beside it.
        browser: Open the page in the browser.
        max_pixels: Larger pictures are refused.
        allowed_host: Further name under which the server may be called (behind a proxy).
    """
    try:
        import uvicorn

        from retouch.web.app import create_app
        from retouch.web.settings import LOOPBACK, Settings
    except ModuleNotFoundError as error:
        print(f"retouch: {error.name} is missing: pip install 'retouch[web]'", file=sys.stderr)
        sys.exit(2)
    if host not in LOOPBACK and token is None:
        token = secrets.token_urlsafe(16)
    offered, folder = _offered(picture)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    settings = Settings(
        host=host,
        port=port,
        token=token,
        allowed_hosts=allowed_host,
        network=Path(network) if network.endswith(".safetensors") else network,
        devices=(device,),
        offered=offered,
        output=output or folder,
        max_pixels=max_pixels,
    )
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    print(f"Retouch is at {address} (Ctrl+C ends it)", flush=True)
    if browser:
        _open_soon(address)
    config = uvicorn.Config(
        create_app(settings), log_level="warning", server_header=False, timeout_keep_alive=30
    )
    uvicorn.Server(config).run(sockets=[listening])


def _offered(picture: Path | None) -> tuple[tuple[Path, ...], Path | None]:
    """List the pictures that the page may ask for, and the folder for their results."""
    if picture is None:
        return (), None
    if not picture.is_dir():
        if not picture.is_file():
            raise FileNotFoundError(f"{picture}: there is no such file or folder")
        return (picture.resolve(),), None
    from retouch import pictures

    whole = picture.resolve()
    return tuple(pictures.find(whole)), whole.with_name(f"{whole.name}_filled")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listening


def _open_soon(address: str) -> None:
    import threading
    import webbrowser

    timer = threading.Timer(0.6, webbrowser.open, (address,))
    timer.daemon = True
    timer.start()
