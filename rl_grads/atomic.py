"""Files that readers see whole: the old one or the new one, never a part."""

import contextlib
import os
import pathlib
import secrets


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Write a file; where the disk is full the old one stays and no part is left.

    A link in its place is replaced and not followed.

    Args:
        path: The file; its folder exists. A temporary file stands beside it meanwhile.
        content: All of it.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
        >>> write_bytes(path, b"1 2 3")
        >>> path.read_bytes()
        b'1 2 3'
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
