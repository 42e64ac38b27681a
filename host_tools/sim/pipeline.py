"""The release side of a simulated installation: keys, a trust list, signed releases, a repository and its server.

Does in one process what people do with `sealband trust` and `sealband release`, by the same code. The keys are made
anew each time and guard nothing. Used by `host_tools.sim.site`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boards import Board
from host_tools.release import build, flash, manifest, repository, sign, trust
from host_tools.release.serve import RepositoryServer
from host_tools.rollout.published import Published, find
from provisioning import signers
from sealwire.messages import EPOCH_2025

KEYS = 3
THRESHOLD = 2
ROOTS = 2


class Pipeline:
    """Makes releases for one model of board. A context manager: its web server runs while it is entered.

    Args:
        directory: gets `keys/`, `releases/` and `repository/`.
        board: whom the releases are for.
        device: the folder of device code.
        lock: the source's `requirements.lock`, for the SBOMs.
        clock: Unix seconds.

    Attributes:
        repository: the folder that is served.
        trust_list: the newest, signed by both root keys; version 1: releases need two of three.
        keys: the release keys of that list.
        requests: what was asked of the web server, a line each.
    """

    def __init__(
        self, directory: Path, board: Board, device: Path, lock: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._board = board
        self._device = device
        self._lock = lock
        self._clock = clock
        self.repository = directory / "repository"
        for folder in (directory / "keys", directory / "releases", self.repository):
            folder.mkdir(parents=True)
        self.keys = [self._key(f"release-{number + 1}") for number in range(KEYS)]
        self._roots = [self._key(f"root-{number + 1}") for number in range(ROOTS)]
        points = tuple(key.public_key[1:] for key in self.keys)
        roots = tuple(key.public_key[1:] for key in self._roots)
        self._trust(trust.TrustList(1, THRESHOLD, points, ROOTS, roots), None)
        self.requests: list[str] = []
        self._server = RepositoryServer(self.repository, log=self.requests.append)

    def __enter__(self) -> "Pipeline":
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    @property
    def url(self) -> str:
        """Where the repository is served."""
        return self._server.url

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The web server is down while in it."""
        port = self._server.port
        self._server.__exit__(None, None, None)
        try:
            yield
        finally:
            self._server = RepositoryServer(self.repository, port, log=self.requests.append)
            self._server.__enter__()

    def take_away(self, key: signers.FileSigner) -> None:
        """Make the next trust list, without this release key; it is published beside what comes next."""
        now = trust.decode(self.trust_list).trust
        left = tuple(point for point in now.release_keys if point != key.public_key[1:])
        self._trust(trust.successor(now, release_keys=left), now)
        self.keys.remove(key)

    def release(self, sequence: int, version: str, app: Path | None = None, signatures: int = THRESHOLD) -> Path:
        """Build a release and sign it with so many of the keys; its folder."""
        folder = self._directory / "releases" / str(sequence)
        order = build.Order(self._board, sequence, version, folder, self._lock)
        build.build_app(order, self._device, app)
        for key in self.keys[:signatures]:
            signed = sign.sign(sign.open_release(folder), key)
            (folder / build.MANIFEST).write_bytes(signed)
        return folder

    def publish(self, folder: Path) -> Published:
        """Publish a signed release; what a rollout needs to know of it."""
        done = repository.publish(self.repository, folder, [self.trust_list], now_s=self._now_s())
        return self.published(done.parsed.release.sequence)

    def published(self, sequence: int) -> Published:
        """A release of the repository."""
        return find(self.repository, self.url, self._board.model, sequence, self.trust_file, self._now_s())

    def delivered(self, published: Published) -> dict[str, int]:
        """What a published release is delivered as: "full" or "patch from N" → bytes."""
        shelf = self.repository / self._board.model
        home = shelf / str(published.sequence) / published.image_digest.hex()
        sizes = {"full": (home / "full.deflate").stat().st_size}
        for path in sorted(home.glob("from-*.patch")):
            for base in shelf.iterdir():
                if (base / path.stem.removeprefix("from-")).is_dir():
                    sizes[f"patch from {base.name}"] = path.stat().st_size
        return sizes

    def place(self, folder: Path) -> Published:
        """Put a release among the published ones unchecked, as whoever has broken into the web server could."""
        parsed = manifest.decode((folder / build.MANIFEST).read_bytes())
        target = self.repository / self._board.model / str(parsed.release.sequence)
        target.mkdir(parents=True)
        (target / build.MANIFEST).write_bytes((folder / build.MANIFEST).read_bytes())
        return Published(
            model=self._board.model,
            component="app",
            sequence=parsed.release.sequence,
            version="",
            manifest_digest=parsed.manifest_digest,
            image_digest=parsed.release.digest,
            size=parsed.release.size,
            url=f"{self.url}/{self._board.model}/{parsed.release.sequence}/{build.MANIFEST}",
        )

    def flash_tree(self, folder: Path, out: Path, wifi: tuple[str, str], **more: Any) -> None:
        """What goes onto a new board: this release, what boots it, the trust list, and where updates come from.

        Args:
            more: what else the factory writes down, as `flash.Provision` names it.
        """
        vendor, class_id = manifest.identifiers(self._board.vendor, self._board.model)
        provision = flash.Provision(vendor, class_id, [self.url], wifi, **more)
        flash.flash_tree(folder, self.trust_list, out, device=self._device, provision=provision, now_s=self._now_s())

    def _trust(self, listed: trust.TrustList, before: trust.TrustList | None) -> None:
        signed = trust.draft(listed)
        for key in self._roots:
            signed = trust.sign(signed, key, before)
        self.trust_list = signed
        self.trust_file = self._directory / f"trust-{listed.version}.cbor"
        self.trust_file.write_bytes(signed)

    def _key(self, name: str) -> signers.FileSigner:
        return signers.create_file_key(self._directory / "keys" / f"{name}.pem")

    def _now_s(self) -> int:
        return max(0, int(self._clock()) - EPOCH_2025)
