"""Write constraints-hashes.txt: the SHA-256 of every file that constraints.txt pins, as pip is given them now.

    python -m pip install --dry-run --ignore-installed --no-deps -r constraints.txt --report report.json
    python .ci/hashes.py report.json

`make hashes` does both. torch is left out: which file it is depends on the index, CPU or CUDA.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HASHES = Path(__file__).parents[1] / "constraints-hashes.txt"
HEAD = "# SHA-256 of the files behind constraints.txt, Linux x86-64 and Python 3.11; written by `make hashes`.\n"
LEFT_OUT = "torch"


def lines(report: dict) -> list[str]:
    """One requirement with its hash for each file of pip's report, sorted by name."""
    pinned = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        if name != LEFT_OUT:
            pinned.append(f"{name}=={version} --hash=sha256:{sha256}\n")
    return sorted(pinned, key=str.lower)


if __name__ == "__main__":
    HASHES.write_text(HEAD + "".join(lines(json.loads(Path(sys.argv[1]).read_text()))))
