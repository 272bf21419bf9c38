"""A released specialist taken apart: ``python -m src.unpack release=… checkpoint=… backbone=… out=…``."""

from esmerge.cli.unpack import main

if __name__ == "__main__":
    main()
