"""Parts of one family; see base.py."""

if __name__ != "nca_texture.targets":
    raise ImportError("import nca_texture.targets, not targets (see README, 'Layout')")
