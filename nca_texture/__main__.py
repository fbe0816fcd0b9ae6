"""``python -m nca_texture`` is ``nca-texture``."""

from nca_texture.cli import main

if __name__ == "__main__":
    main()
