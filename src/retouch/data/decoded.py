"""Decoded pictures: kept in memory while they fit, decoded at each use beyond that."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np

from retouch.data import sources
from retouch.data.sources import Entry


class Decoded(Sequence[np.ndarray]):
    """The pictures (or label maps) of some entries.

    Args:
        found: What to decode.
        decode: How: one of the `decode` functions of `retouch.data.sources`.
        budget: Memory for decoded pictures [bytes].
        check: Decode everything now, so that broken pictures are listed at once.
        threads: For checking.

    Raises:
        DataError: If pictures are broken.
    """

    def __init__(
        self,
        found: Sequence[Entry],
        decode: Callable[[Entry], np.ndarray] = sources.decode,
        *,
        budget: float = 8e9,
        check: bool = True,
        threads: int = 4,
    ) -> None:
        self.found = found
        self.decode = decode
        self.budget = budget
        self.kept: dict[int, np.ndarray] = {}
        self.fingerprints: list[bytes] = []
        """Of the decoded pixels; empty if nothing was checked."""
        self._lock = threading.Lock()
        if check:
            numbered = {id(entry): index for index, entry in enumerate(found)}
            work = lambda entry: self._check(numbered[id(entry)])  # noqa: E731
            self.fingerprints = sources.each(work, found, threads)

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        kept = self.kept.get(index)
        return kept if kept is not None else self._keep(index, self.decode(self.found[index]))

    def _check(self, index: int) -> bytes:
        return fingerprint(self._keep(index, self.decode(self.found[index])))

    def _keep(self, index: int, picture: np.ndarray) -> np.ndarray:
        with self._lock:
            if index not in self.kept and picture.nbytes <= self.budget:
                self.kept[index] = picture
                self.budget -= picture.nbytes
        return picture


def fingerprint(picture: np.ndarray) -> bytes:
    """Return 16 bytes that depend on size and pixels alone, not on file format or name."""
    shape = np.array(picture.shape, np.int64).tobytes()
    return hashlib.blake2b(
        np.ascontiguousarray(picture).data, digest_size=16, key=shape[:64]
    ).digest()


def overlap(
    first: Iterable[tuple[str, bytes]], second: Iterable[tuple[str, bytes]]
) -> list[tuple[str, str]]:
    """Find pictures that two sets share by content.

    Args:
        first: (key, fingerprint) of each picture.
        second: The same of the other set.

    Returns:
        Pairs of keys: one of the first set, one of the second.
    """
    known = {mark: key for key, mark in first}
    return [(known[mark], key) for key, mark in second if mark in known]
