"""The stubs land in one flat package, follow the contracts, and unchanged ones are not rewritten."""

from pathlib import Path

import pytest

from tools import generate_protos


def test_stage_rewrites_imports_between_contracts_only(tmp_path: Path) -> None:
    source = tmp_path / "proto"
    source.mkdir()
    (source / "a.proto").write_text(
        'syntax = "proto3";\nimport "aktis/v1/b.proto";\nimport "google/protobuf/any.proto";\n'
    )
    (source / "b.proto").write_text('syntax = "proto3";\n')
    names = generate_protos.stage(source, tmp_path / "staging")
    assert names == ["aktis/_proto/a.proto", "aktis/_proto/b.proto"]
    text = (tmp_path / "staging" / "aktis" / "_proto" / "a.proto").read_text()
    assert 'import "aktis/_proto/b.proto";' in text
    assert 'import "google/protobuf/any.proto";' in text


def test_stage_without_contracts_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=str(tmp_path)):
        generate_protos.stage(tmp_path, tmp_path / "staging")


def test_publish_mirrors_and_keeps_what_did_not_change(tmp_path: Path) -> None:
    generated, package = tmp_path / "generated", tmp_path / "package"
    generated.mkdir()
    package.mkdir()
    (generated / "same_pb2.py").write_text("same")
    (generated / "new_pb2.py").write_text("new")
    (package / "same_pb2.py").write_text("same")
    (package / "gone_pb2.py").write_text("gone")
    before = (package / "same_pb2.py").stat().st_mtime_ns
    generate_protos.publish(generated, package)
    assert sorted(path.name for path in package.iterdir()) == ["__init__.py", "new_pb2.py", "same_pb2.py"]
    assert (package / "same_pb2.py").stat().st_mtime_ns == before


def test_generated_package_is_importable() -> None:
    from aktis._proto import common_pb2

    assert common_pb2.DESCRIPTOR.package == "aktis.v1"
