#!/bin/sh
# Fill the folder .whl of the checkout with what a machine lacks that has torch, transformers, peft and scikit-learn.
# Run it with the Python version of that machine: PYTHON=python3.12 benchmarks/gpu/wheels.sh
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$root/.whl"
version() { sed -n "s/^$1==//p" "$root/constraints.txt"; }
for package in hydra-core omegaconf antlr4-python3-runtime rdkit; do  # antlr4 is a source distribution: it is built
    "$python" -m pip wheel --quiet --no-deps --disable-pip-version-check --wheel-dir "$root/.whl" \
        "$package==$(version "$package")"
done
ls -l "$root/.whl"
