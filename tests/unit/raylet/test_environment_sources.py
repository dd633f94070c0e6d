"""Files of environments: fetched, unpacked, kept inside of their folder."""

import zipfile
from pathlib import Path

import pytest
from aktisd.raylet.environments.sources import Sources

SOURCES = Sources("unix:/nowhere", "token")


def archive(path: Path, *names: str, mode: int = 0) -> str:
    with zipfile.ZipFile(path, "w") as target:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            target.writestr(info, name)
    return path.as_uri()


def unpacked(tmp_path: Path, uri: str, *, is_module: bool = False) -> list[str]:
    folder = tmp_path / "target"
    folder.mkdir()
    SOURCES.unpack(uri, folder, is_module=is_module)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_one_top_folder_of_an_archive_is_left_out(tmp_path: Path) -> None:
    uri = archive(tmp_path / "a.zip", "top/a.py", "top/top/b.py")
    assert unpacked(tmp_path, uri) == ["a.py", "top/b.py"]


def test_a_module_keeps_it(tmp_path: Path) -> None:
    uri = archive(tmp_path / "a.zip", "module/__init__.py")
    assert unpacked(tmp_path, uri, is_module=True) == ["module/__init__.py"]


def test_several_at_the_top_stay_where_they_are(tmp_path: Path) -> None:
    assert unpacked(tmp_path, archive(tmp_path / "a.zip", "a/x", "b")) == ["a/x", "b"]


def test_names_that_lead_out_do_not(tmp_path: Path) -> None:
    uri = archive(tmp_path / "a.zip", "../../out", "/absolute", "in")
    unpacked(tmp_path, uri)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "target"}


def test_programs_stay_executable(tmp_path: Path) -> None:
    unpacked(tmp_path, archive(tmp_path / "a.zip", "run.sh", "b", mode=0o755))
    assert (tmp_path / "target" / "run.sh").stat().st_mode & 0o777 == 0o755


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("text")
    with pytest.raises(ValueError, match="is not a zip file"):
        unpacked(tmp_path, (tmp_path / "a.zip").as_uri())


def test_other_schemes_need_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ValueError, match="fetching from s3:// needs the package fsspec"):
        unpacked(tmp_path, "s3://bucket/a.zip")
