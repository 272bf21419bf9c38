"""The benchmarks' tables: ``python -m src.tasks VERB [NAME …] [key=value …]``."""

from esmerge.cli.tasks.main import main

if __name__ == "__main__":
    main()
