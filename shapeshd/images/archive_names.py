"""The names of an archive's members: none may lead outside of it.

Nothing is ever unpacked here. A name that leads outside is refused all the same: such an archive
was made to write into folders of whoever unpacks it, and is not to be trusted.
"""

from __future__ import annotations

from shapeshd.errors import UsageError

from .numbered import shown

_DRIVE = 2  # where the colon of a name such as "C:/x.png" is, plus one


def check_member_name(member: str, *, source: str, archive: str) -> None:
    """Refuse a member whose name leads outside of its archive on any system.

    Args:
        member: its name as the archive has it.
        source: what the user called the archive.
        archive: what it is, such as "zip file".

    Raises:
        UsageError: if the name is absolute, climbs up, or holds a backslash or a drive.
    """
    drive = member[:_DRIVE].endswith(":")
    if member.startswith("/") or ".." in member.split("/") or "\\" in member or drive:
        raise UsageError(
            f"{source}: the name {shown(member)!r} leads outside of the {archive}: such a file is "
            "not read"
        )


def is_system_file(member: str) -> bool:
    """Tell whether a member is one of those that macOS adds beside every file."""
    return "__MACOSX" in member.split("/")
