"""What ``pyproject.toml`` has no word for: a wheel also holds what a checkout keeps at its top.

``conf/`` becomes ``esmerge/conf``, ``benchmarks/published.csv`` becomes ``esmerge/published.csv`` and the weights below
``benchmarks/specialists/`` become ``esmerge/weights``, where ``esmerge.core.paths`` looks first. An editable install
copies nothing and goes on reading the checkout.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = "esmerge"
WEIGHTS = (".json", ".safetensors", ".md")


def shipped() -> dict[Path, Path]:
    """File in the checkout -> its path inside the package."""
    configs = {path: path.relative_to(ROOT) for path in sorted((ROOT / "conf").rglob("*.yaml"))}
    trained = ROOT / "benchmarks" / "specialists"
    files = [path for path in sorted(trained.glob("*/seed*/**/*")) if path.suffix in WEIGHTS]
    weights = {path: Path("weights", path.relative_to(trained)) for path in files}
    return {**configs, **weights, ROOT / "benchmarks" / "published.csv": Path("published.csv")}


class BuildPackage(build_py):
    """Builds the package, then adds the files that lie elsewhere."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, inside in shipped().items():
            target = Path(self.build_lib, PACKAGE, inside)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target), preserve_mode=False)


setup(cmdclass={"build_py": BuildPackage})
