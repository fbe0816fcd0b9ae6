"""Names that people type, the classes that some stand for, and names for files."""

import difflib
import importlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

_MOST = 20  # names of a table, in one sentence

Made = TypeVar("Made")


def near(name: str, known: Collection[str]) -> str:
    """Name what of ``known`` was perhaps meant, and all that could have been."""
    if not known:
        return "there are none"
    found = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    names = ", ".join(list(known)[:_MOST])
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return (f"did you mean {found[0]!r}? " if found else "") + f"there are {names}{more}"


def check_name(name: str, known: Collection[str], kind: str) -> None:
    """Raise a ``ValueError`` with the nearest name when ``name`` is not among ``known``."""
    if name not in known:
        raise ValueError(f"no {kind} is called {name!r}; {near(name, known)}")


def find_class(name: str, table: Mapping[str, str], kind: str, base: type[Made]) -> type[Made]:
    """Import the class that ``name`` stands for in ``table``, or "package.module:Class" itself.

    Raises ``ValueError`` with the nearest name when there is none, or when what is there is not
    made from ``base``.
    """
    place = table.get(name, name)
    if ":" not in place:
        check_name(name, table, kind)
    module_name, _, class_name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as reason:
        raise ValueError(f"the {kind} {name!r} cannot be imported: {reason}") from reason
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(
            f"{place} is no {kind}; expected a class made from nca_texture's {base.__name__}"
        )
    return found


def file_names(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Make plain names of files, without folders: no two alike, and none of ``taken``.

    Upper and lower case are alike, as they are on some disks.
    """
    gone = {each.casefold() for each in taken}
    found = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")
        plain = plain if re.search(r"\w", plain) else "model"
        free, turn = plain, 2
        while free.casefold() in gone:
            free, turn = f"{plain}-{turn}", turn + 1
        gone.add(free.casefold())
        found.append(free)
    return found
