"""The code that is packaged with a model: only the modules that its loader imports."""

from __future__ import annotations

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

LOADER = "distilspark.package.pyfunc"
LOADERS = (LOADER, "distilspark.scoring.pyfunc")  # the second one is the loader of models of 0.1.0
SOURCE = Path(__file__).resolve().parents[1]
# a process that has both a loaded model and the project still finds the project's other modules
EXTENDED = "\n__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


def write_code(folder: Path) -> Path:
    """Copy the project's modules that `LOADER` imports, directly or not, into a folder; return the package there."""
    finder = ModuleFinder([str(SOURCE.parent)])
    finder.import_hook(LOADER)
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    for file in sorted(map(Path, filter(None, files))):  # built-in modules have no file
        target = folder / file.relative_to(SOURCE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        if file.name == "__init__.py":
            target.write_text(file.read_text(encoding="utf-8") + EXTENDED, encoding="utf-8")
    return folder / SOURCE.name
