"""Every RPC of every service has a role, and only the token's holder has roles."""

from aktis._common.access import ALL_ROLES, REQUIRED_ROLE, TokenAuthority
from aktis._proto import gcs_pb2, plasma_pb2, raylet_pb2


def test_the_table_is_complete_over_all_services() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in (gcs_pb2, plasma_pb2, raylet_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(REQUIRED_ROLE)


def test_only_the_exact_token_gives_roles() -> None:
    authority = TokenAuthority("secret")
    assert authority.roles("secret") == ALL_ROLES
    for wrong in (None, "", "secre", "secrets", "Secret", "s\udcffecret"):
        assert authority.roles(wrong) == frozenset()
