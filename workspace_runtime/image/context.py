"""What our image is built from, put together in memory: the Dockerfile and the server that runs inside."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_DOCKERFILE = Path(__file__).with_name("Dockerfile")


def _files() -> dict[str, bytes]:
    """Every file of the context by its name there, in a stable order."""
    inside = sorted((_PACKAGE / "inside").glob("*.py"))
    sources = [_PACKAGE / "__init__.py", *inside]
    files = {f"workspace_runtime/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes() for path in sources}
    return {"Dockerfile": _DOCKERFILE.read_bytes(), **files}


def context() -> bytes:
    """The build context as a tar archive. The same files give the same bytes, so that an engine's cache serves."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in _files().items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def version() -> str:
    """Changes with what the image is built from; twelve hexadecimal digits."""
    return hashlib.sha256(context()).hexdigest()[:12]
