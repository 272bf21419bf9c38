"""How far a sweep is, from any shell: ``python -m src.status``."""

from esmerge.cli.status import main

if __name__ == "__main__":
    main()
