"""Print every requirement of a development environment: build, run time and the dev extra."""

import tomllib
from pathlib import Path


def main() -> None:
    """Print one requirement per line."""
    pyproject = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    print("\n".join([*pyproject["build-system"]["requires"], *project["dependencies"], *extras["dev"]]))


if __name__ == "__main__":
    main()
