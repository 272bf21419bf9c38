#!/bin/sh
# The check of the GPU path; options: benchmarks/gpu/README.md. Wheels in a folder .whl of the checkout are used, not installed.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
python=${PYTHON:-python3}
path=$root/src:$root
if [ -d "$root/.whl" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --target "$packages" "$root"/.whl/*.whl
    path=$path:$packages
fi
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} TOKENIZERS_PARALLELISM=false "$python" -m benchmarks.gpu.check "$@"
