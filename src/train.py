"""Train a set of specialists: ``python -m src.train specialists=textbook``."""

from esmerge.cli.train import main

if __name__ == "__main__":
    main()
