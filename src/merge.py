"""Merge adapters of your own: ``python -m src.merge backbone=… experts.NAME=… out=…``."""

from esmerge.cli.merge import main

if __name__ == "__main__":
    main()
