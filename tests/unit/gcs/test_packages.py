"""Which environments are forgotten and which packages removed, and when."""

from aktis._common.environments import KV_NAMESPACE, PACKAGES_NAMESPACE, USES_NAMESPACE, Use, read_use
from aktis._proto import gcs_pb2
from aktisd.gcs import methods
from aktisd.gcs.effects import Effects
from aktisd.gcs.limits import Limits
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gcs_parts import Report, SimulatedCluster, actor_spec, report

LIMITS = Limits(package_bytes=100, package_grace_ms=1_000)
E1, E2, E3 = ("1" * 32, "2" * 32, "3" * 32)


class Cluster(SimulatedCluster):
    """With a node, and the calls of clients."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(limits)
        self.register(1)

    def put(self, namespace: str, key: bytes, value: bytes = b"") -> None:
        out = Effects()
        request = gcs_pb2.KvPutRequest(namespace=namespace, key=key, value=value, overwrite=True)
        methods.call(self.state, "KvPut", request.SerializeToString(), out)
        self.settle(out)

    def upload(self, digest: str, size_bytes: int) -> None:
        self.put(PACKAGES_NAMESPACE, f"{digest}/0".encode(), bytes(size_bytes))
        self.put(PACKAGES_NAMESPACE, digest.encode(), str(size_bytes).encode())

    def use(self, job_id: bytes, environment: str, *digests: str) -> None:
        self.put(USES_NAMESPACE, Use(environment, job_id=job_id).key)
        for digest in digests:
            self.put(USES_NAMESPACE, Use(environment, package=digest).key)
        self.put(KV_NAMESPACE, environment.encode(), b"{}")

    def finish(self, job: gcs_pb2.Job) -> None:
        out = Effects()
        self.state.finish_job(job.job_id, "test", out)
        self.settle(out)

    def later(self, passed_ms: float = 300_000) -> None:
        """Let time pass, in which nodes are heard of."""
        self.clock.advance(passed_ms)
        out = Effects()
        self.state.packages.tick(out)
        self.settle(out)

    def keys(self, namespace: str) -> set[str]:
        return {key.decode() for key in self.state.kv.list(gcs_pb2.KvListRequest(namespace=namespace)).keys}

    @property
    def environments(self) -> set[str]:
        described = {one.hash for one in self.state.info().environments}
        assert described == {key.partition("/")[0] for key in self.keys(USES_NAMESPACE)}
        assert described == self.keys(KV_NAMESPACE)
        return described

    @property
    def packages(self) -> set[str]:
        info = self.state.info()
        found = {key.partition("/")[0] for key in self.keys(PACKAGES_NAMESPACE)}
        assert info.packages == len(found)
        assert (info.package_bytes > 0) == bool(found)
        return found


def test_what_a_running_job_needs_stays_however_much_it_is() -> None:
    cluster = Cluster()
    job = cluster.job()
    cluster.upload("a", 90)
    cluster.use(job.job_id, E1, "a")
    cluster.upload("b", 90)
    cluster.use(job.job_id, E2, "b")
    cluster.later()
    assert cluster.packages == {"a", "b"}
    assert cluster.environments == {E1, E2}


def test_the_end_of_the_last_job_forgets_an_environment_and_keeps_its_packages_while_there_is_room() -> None:
    cluster = Cluster()
    first, second = cluster.job(1), cluster.job(2)
    cluster.upload("a", 50)
    cluster.use(first.job_id, E1, "a")
    cluster.use(second.job_id, E1, "a")
    cluster.finish(first)
    assert cluster.environments == {E1}
    cluster.finish(second)
    assert cluster.environments == set()
    cluster.later()
    assert cluster.packages == {"a"}


def test_packages_that_nobody_needs_go_by_their_last_use() -> None:
    cluster = Cluster()
    for digest in ("a", "b", "c"):
        cluster.upload(digest, 30)
        cluster.clock.advance(5_000)
    get = gcs_pb2.KvGetRequest(namespace=PACKAGES_NAMESPACE, key=b"a")
    methods.call(cluster.state, "KvGet", get.SerializeToString(), Effects())
    cluster.clock.advance(5_000)
    cluster.upload("d", 30)
    assert cluster.packages == {"a", "c", "d"}
    assert cluster.state.packages.removed == 1


def test_a_package_of_which_a_client_has_just_made_sure_has_a_moment() -> None:
    cluster = Cluster()
    cluster.upload("a", 90)
    cluster.upload("b", 90)
    assert cluster.packages == {"a", "b"}
    job = cluster.job()
    cluster.use(job.job_id, E1, "b")
    cluster.later()
    assert cluster.packages == {"b"}


def test_a_detached_actor_holds_its_environment_and_what_its_job_has_asked_for() -> None:
    cluster = Cluster()
    job = cluster.job()
    cluster.upload("a", 90)
    cluster.use(job.job_id, E1, "a")
    cluster.upload("b", 90)
    cluster.use(job.job_id, E2, "b")
    cluster.create(actor_spec(1, detached=True, name="d", job_id=job.job_id, runtime_env_hash=E1))
    cluster.up(1, actor_report=report(1, 1, Report.ALIVE))
    cluster.finish(job)
    cluster.later()
    assert cluster.packages == {"a", "b"}
    assert cluster.environments == {E1, E2}
    out = Effects()
    cluster.state.actor_requests.kill(
        gcs_pb2.KillActorRequest(actor_id=actor_spec(1).actor_id, no_restart=True), out
    )
    cluster.settle(out)
    cluster.up(1, actor_report=report(1, 1, Report.DIED))
    cluster.later()
    assert cluster.environments == set()
    assert len(cluster.packages) == 1, "one fits into what is kept in any case"


def test_it_goes_on_after_a_restart_of_the_gcs() -> None:
    cluster = Cluster()
    job = cluster.job()
    cluster.upload("a", 90)
    cluster.use(job.job_id, E1, "a")
    cluster.upload("b", 90)
    cluster.restart()
    cluster.register(1, live_jobs=[job.job_id])
    assert cluster.environments == {E1}
    cluster.later()
    assert cluster.packages == {"a"}
    cluster.finish(job)
    assert cluster.environments == set()


@given(st.binary(max_size=60))
def test_any_key_can_be_read(key: bytes) -> None:
    use = read_use(key)
    assert use is None or read_use(use.key) == use


def test_keys_say_what_they_mean() -> None:
    for use in (Use(E3, job_id=b"\0\0\0\1"), Use(E3, package="ab")):
        assert read_use(use.key) == use
    for wrong in (
        b"",
        b"x",
        b"x/job/",
        b"x/job/zz",
        b"x/package/",
        b"x/other/ab",
        b"\xff/job/00",
        b"a/b/c/d",
    ):
        assert read_use(wrong) is None
