"""Tables from their official sources, whole and with a checksum: ``python -m src.tasks fetch``.

``sources`` lists where tables lie, ``transfer`` brings one file, ``integrity`` and ``ledger`` say whether it is the
right one, ``placing`` puts it under its name, ``making`` turns upstream's tables into those that benchmarks expect.
"""
