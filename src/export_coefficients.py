"""A merge's coefficients for the authors' code: ``python -m src.export_coefficients coefficients=… out=…``."""

from esmerge.cli.export_coefficients import main

if __name__ == "__main__":
    main()
