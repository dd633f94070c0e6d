"""Peers of another major protocol version are refused in words that help."""

from aktis._common import version


def test_the_same_major_version_is_welcome() -> None:
    assert version.refusal(version.PROTOCOL_MAJOR, version.PROTOCOL_MINOR + 7) is None


def test_the_refusal_names_both_versions_and_who_must_upgrade() -> None:
    older = version.refusal(version.PROTOCOL_MAJOR - 1, 3, "0.0.9")
    assert older is not None
    assert "protocol 0.3 (aktis 0.0.9)" in older
    assert f"aktis {version.VERSION}" in older
    assert "upgrade the peer" in older
    newer = version.refusal(version.PROTOCOL_MAJOR + 1, 0)
    assert newer is not None
    assert "upgrade this side" in newer
