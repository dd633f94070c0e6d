"""The alias as a distribution on disk."""

import subprocess
import sys
from pathlib import Path

import pytest
from aktis.compat import environment


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages in the place of this interpreter's."""
    monkeypatch.setattr(environment, "_site_packages", lambda: tmp_path)
    return tmp_path


def run(site: Path, program: str) -> str:
    paths = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    finished = subprocess.run(
        [sys.executable, "-c", paths + program], capture_output=True, text=True, timeout=50, check=True
    )
    return finished.stdout.strip()


def test_every_process_imports_it_and_finds_its_metadata(site: Path) -> None:
    assert "is Aktis now" in environment.install("2.55.1")
    program = """
import importlib.metadata as metadata, importlib.util
print(importlib.util.find_spec("ray") is not None, metadata.version("ray"), metadata.requires("ray"))
import ray.util
from ray.exceptions import RayError
import aktis
print(ray.get is aktis.get, ray.__version__, RayError.__name__, sys.modules["ray"] is ray)
"""
    assert run(site, program).splitlines() == ["True 2.55.1 ['aktis']", "True 2.55.1 AktisError True"]


def test_the_record_names_every_file(site: Path) -> None:
    environment.install()
    written = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    (record,) = site.glob("ray-*.dist-info/RECORD")
    assert {line.split(",")[0] for line in record.read_text().splitlines()} == written


def test_it_is_replaced_and_removed(site: Path) -> None:
    environment.install("2.55.1")
    environment.install("2.60.0")
    assert [path.name for path in site.glob("ray-*")] == ["ray-2.60.0.dist-info"]
    assert "removed" in environment.uninstall()
    assert list(site.iterdir()) == []
    assert "not installed" in environment.uninstall()


def test_the_real_package_is_left_alone(site: Path) -> None:
    info = site / "ray-2.60.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.60.0\n")
    (info / "INSTALLER").write_text("pip\n")
    for change in (environment.install, environment.uninstall):
        with pytest.raises(FileExistsError, match="pip uninstall ray"):
            change()
    assert (info / "METADATA").exists()
