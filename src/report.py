"""Rebuild the tables and figures of a sweep: ``python -m src.report``."""

from esmerge.cli.report import main

if __name__ == "__main__":
    main()
