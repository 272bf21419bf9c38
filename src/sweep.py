"""Merge the specialists, ask the benchmarks, report: ``python -m src.sweep -m granularity=layer,element,joint``."""

from esmerge.cli.sweep import main

if __name__ == "__main__":
    main()
