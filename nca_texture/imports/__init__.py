"""Models that other programs have published; a new format is one file and one line here."""

from pathlib import Path

from nca_texture.errors import InputError
from nca_texture.imports.base import Document, Format, Published
from nca_texture.imports.distill import Distill
from nca_texture.imports.growing import Growing
from nca_texture.imports.munca import MuNCA

FORMATS: dict[str, type[Format]] = {each.name: each for each in (Distill, Growing, MuNCA)}

MOST_BYTES = 2**26  # of a file; the largest published one has 1.2 MB


def read(path: str | Path) -> list[Published]:
    """Read every model of a published file.

    Raises ``InputError`` for a file that is missing, too large, damaged or of no known format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as reason:
        raise InputError(f"there is no file {path}; expected published models") from reason
    except IsADirectoryError as reason:
        raise InputError(f"{path} is a directory; expected a file of published models") from reason
    except OSError as reason:
        raise InputError(f"{path} cannot be read: {reason.strerror}") from reason
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{path.name} has more than {MOST_BYTES // 2**20} MB; published models have less"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise InputError(f"{path.name} is no text; {_known()}") from reason
    document = Document.parse(path.name, text)
    for kind in FORMATS.values():
        if kind().recognises(document):
            return kind().read(document)
    wants = document.problem and text.lstrip()[:1] in ("{", "[")
    wrong = f"is damaged JSON ({document.problem})" if wants else ""
    raise InputError(f"{path.name} {wrong or 'is of no format that is known'}; {_known()}")


def select(models: list[Published], name: str, file: str) -> Published:
    """Find the model called ``name``, or whose name ends in ``/name``.

    Raises ``InputError`` with names that are near when there is none.
    """
    import difflib

    found = [each for each in models if each.name == name]
    found = found or [each for each in models if each.name.rpartition("/")[2] == name]
    if found:
        return found[0]
    known = [each.name for each in models]
    near = difflib.get_close_matches(name, known, 3, 0.4) or known[:3]
    raise InputError(
        f"{file} has no model called {name!r}; among its {len(known)} are {', '.join(near)}"
    )


def _known() -> str:
    return f"known are {'; '.join(each.summary for each in FORMATS.values())}"
