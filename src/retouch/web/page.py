"""The page's files, from memory: there before the first network, even while PyTorch is imported."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

STATIC = Path(__file__).parent / "static"
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _File:
    """One file, packed once."""

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.packed = gzip.compress(self.body, mtime=0)
        self.headers = {
            "Content-Type": _MEDIA[path.suffix],
            "ETag": f'"{hashlib.sha256(self.body).hexdigest()[:16]}"',
            "Vary": "Accept-Encoding",
        }

    def answer(self, asked: Headers) -> Response:
        if self.headers["ETag"] in asked.get("if-none-match", ""):
            return Response(status_code=304, headers=self.headers)
        if "gzip" in asked.get("accept-encoding", ""):
            return Response(self.packed, headers={**self.headers, "Content-Encoding": "gzip"})
        return Response(self.body, headers=self.headers)


class Page:
    """Answers with the page's files; anything else is not found (ASGI)."""

    def __init__(self) -> None:
        paths = [path for path in sorted(STATIC.iterdir()) if path.suffix in _MEDIA]
        self._files = {f"/{path.name}": _File(path) for path in paths}
        self._files["/"] = self._files["/index.html"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        found = self._files.get(scope["path"])
        response: Response
        if found is None:
            response = JSONResponse({"detail": "Not Found"}, 404)
        elif scope["method"] not in ("GET", "HEAD"):
            response = JSONResponse({"detail": "Method Not Allowed"}, 405)
        else:
            response = found.answer(Headers(scope=scope))
        await response(scope, receive, send)
