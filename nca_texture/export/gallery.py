"""A folder with a page for each of many models, and an index with what they grow."""

import html
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from nca_texture.export.base import Exporter, Trained
from nca_texture.export.html import HtmlExporter, fill, page, read_asset
from nca_texture.names import file_names

_SIDE = 256  # pixels of a picture in the index
_OWN = ("index", "together")  # pages that are not of one model
_TOGETHER = 12  # models of the page in which they are painted into each other


class GalleryExporter(Exporter):
    """``index.html``, a page and a picture of each model, and one page of the first textures."""

    many = True

    def reasons(self, model: Trained) -> list[str]:
        """Name what keeps a model from having a page."""
        return HtmlExporter().reasons(model)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Make the index, the pictures and the pages."""
        names = file_names([model.name for model in models], _OWN)
        files: dict[str, bytes] = {}
        cards = []
        for model, name in zip(models, names, strict=True):
            files[f"{name}.html"] = page([model]).encode()
            files[f"pictures/{name}.webp"] = picture(model)
            cards.append(_card(model, name))
        textures = [model for model in models if not model.automaton.living][:_TOGETHER]
        together = ""
        if len(textures) > 1:
            files["together.html"] = page(textures).encode()
            together = ' Or paint <a href="together.html">one into another</a>.'
        title = f"{len(models)} rules that grow" if len(models) > 1 else models[0].name
        parts = {"title": html.escape(title), "together": together, "cards": "\n".join(cards)}
        return {"index.html": fill(read_asset("gallery.html"), parts).encode()} | files

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say how it is opened."""
        return ["open its index.html in a browser, or put the folder on any web server"]


def picture(model: Trained) -> bytes:
    """Grow ``model`` and show it as WebP, on the page's own paper where it is transparent."""
    automaton = model.automaton
    size = model.size if automaton.living else automaton.grid.cells_for((_SIDE, _SIDE))
    with torch.no_grad():
        state = automaton.grow(automaton.seed(1, size), max(model.steps, 32))
        shown = automaton.to_image(state, size=(_SIDE, _SIDE))[0]
    if len(shown) == 4:
        shown = shown[:3] + (1 - shown[3:]) * 0.94
    pixels = (shown.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=85, method=6)
    return file.getvalue()


def _card(model: Trained, name: str) -> str:
    title, source = html.escape(model.name), html.escape(model.source)
    about = f"{model.automaton.num_parameters:,} numbers" + (f", from {source}" if source else "")
    return (
        f'<li><a href="{html.escape(name)}.html"><img src="pictures/{html.escape(name)}.webp" '
        f'alt="{title}, grown" loading="lazy" width="{_SIDE}" height="{_SIDE}">'
        f"<b>{title}</b><span>{about}</span></a></li>"
    )
