"""Where the files of environments come from: packages in the cluster's key-value store, zip files elsewhere.

Used by the helper process only; everything here blocks.
"""

import asyncio
import importlib
import shutil
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import IO, Final, cast
from urllib.parse import urlsplit

from aktis._common.environments import (
    ARCHIVE_SCHEME,
    PACKAGE_CHUNK_BYTES,
    PACKAGE_SCHEME,
    PACKAGES_NAMESPACE,
)
from aktis._common.rpc import connect
from aktis._proto import gcs_pb2, gcs_pb2_grpc

CALL_TIMEOUT_S: Final = 60.0
DOWNLOAD_TIMEOUT_S: Final = 60.0
"""Without a byte."""


class Sources:
    """See the module."""

    def __init__(self, gcs_address: str, token: str) -> None:
        self._gcs_address = gcs_address
        self._token = token

    def unpack(self, uri: str, folder: Path, *, is_module: bool) -> None:
        """Put the files behind a URI into an existing empty folder.

        Raises:
            OSError: it cannot be fetched.
            ValueError: it is not there, or not a zip file.
        """
        with tempfile.TemporaryFile(dir=folder.parent) as file:
            self._fetch(uri, file)
            file.seek(0)
            try:
                _extract(file, folder)
            except zipfile.BadZipFile as error:
                raise ValueError(f"{uri} is not a zip file: {error}") from error
        if not is_module and not uri.startswith(PACKAGE_SCHEME):
            _lift(folder)

    def _fetch(self, uri: str, file: IO[bytes]) -> None:
        scheme = urlsplit(uri).scheme
        for own in (PACKAGE_SCHEME, ARCHIVE_SCHEME):
            if uri.startswith(own):
                asyncio.run(self._fetch_package(uri.removeprefix(own), file))
                return
        if scheme in ("http", "https", "file"):
            with urllib.request.urlopen(uri, timeout=DOWNLOAD_TIMEOUT_S) as answer:
                shutil.copyfileobj(answer, file)
            return
        try:
            fsspec = importlib.import_module("fsspec")
        except ModuleNotFoundError:
            raise ValueError(
                f"{uri}: fetching from {scheme}:// needs the package fsspec on every node: install it"
            ) from None
        with fsspec.open(uri, "rb") as remote:
            shutil.copyfileobj(remote, file)

    async def _fetch_package(self, digest: str, file: IO[bytes]) -> None:
        async with connect(self._gcs_address, self._token) as channel:
            stub = cast("gcs_pb2_grpc.GcsAsyncStub", gcs_pb2_grpc.GcsStub(channel))

            async def value(key: str) -> bytes:
                request = gcs_pb2.KvGetRequest(namespace=PACKAGES_NAMESPACE, key=key.encode())
                reply = await stub.KvGet(request, timeout=CALL_TIMEOUT_S, wait_for_ready=True)
                if not reply.found:
                    raise ValueError(f"the cluster does not have the package {key}")
                return bytes(reply.value)

            size_bytes = int(await value(digest))
            for number in range(-(-size_bytes // PACKAGE_CHUNK_BYTES)):
                file.write(await value(f"{digest}/{number}"))
            if file.tell() != size_bytes:
                raise ValueError(f"package {digest} has {file.tell()} bytes instead of {size_bytes}")


def _extract(file: IO[bytes], folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for item in archive.infolist():
            path = archive.extract(item, folder)  # never outside of the folder, whatever its name
            mode = (item.external_attr >> 16) & 0o777
            if mode and not item.is_dir():
                Path(path).chmod(mode | 0o600)


def _lift(folder: Path) -> None:
    """Leave out the one folder that everything is in, as archives of repositories have it."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    inner = entries[0].rename(folder / ".unpacked-top-folder")
    for entry in list(inner.iterdir()):
        entry.rename(folder / entry.name)
    inner.rmdir()
