"""Parts of one family; see base.py."""

if __name__ != "nca_texture.losses":
    raise ImportError("import nca_texture.losses, not losses (see README, 'Layout')")
