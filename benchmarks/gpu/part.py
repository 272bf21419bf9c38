"""One part of the check in a process of its own: ``python -m benchmarks.gpu.part MODULE RECORDS WORK …``.

It imports what it needs and waits for a line on standard input, so that the imports of a part can overlap with the part
before it; a GPU is not touched before that line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run the part; 1 if a check failed. An error ends the process with its traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("records", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()

    from benchmarks.gpu.report import Report
    from benchmarks.gpu.setting import Setting

    module = importlib.import_module(options.module)
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line:  # the check has ended
        return 0
    report = Report(options.records)
    setting = Setting(options.small, options.device, float(line), options.work)
    module.run(setting, report)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
