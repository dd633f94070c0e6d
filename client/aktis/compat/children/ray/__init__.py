"""Aktis under this name, for processes that a program under the alias starts: PYTHONPATH names the folder."""

import importlib
import sys

from aktis.compat import install_as_ray

del sys.modules[__name__]  # the alias takes its place
install_as_ray()
importlib.import_module(__name__)
