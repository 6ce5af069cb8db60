"""The wheel carries the notebooks, the profiles and the lock (`synthembed init` lays the first two out); all
else about the package is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithProject(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # the library finds them where they are
            return
        target = Path(self.build_lib, "synthembed", "project")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for pattern in ("notebooks/*.ipynb", "profiles/*.yaml", "requirements.lock"):
            for file in Path().glob(pattern):
                self.mkpath(str(target / file.parent))
                self.copy_file(str(file), str(target / file))


setup(cmdclass={"build_py": WithProject})
