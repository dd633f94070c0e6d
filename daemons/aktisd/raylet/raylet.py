"""The shell around the node's logic: turns messages and signals into events, carries instructions out.

Belongs to the event loop and holds no policy. Everything that it does is a synchronous call from a callback
of the loop. What is read in one round of the loop about leases is answered together after it: a pass over all
who wait is due once a round, not once a message.
"""

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from aktis._common.daemon import DaemonContext
from aktis._common.proto_values import enum_name
from aktis._common.records import DaemonRecord
from aktis._common.version import PROTOCOL_MAJOR, PROTOCOL_MINOR, VERSION
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2, snapshot_pb2

from aktisd.raylet import messages as m
from aktisd.raylet import processes as proc
from aktisd.raylet.causes import STDERR_TAIL_BYTES, Cause, Kind, cause, observed
from aktisd.raylet.control import Control, Reply, Session
from aktisd.raylet.deaths import DeathTable
from aktisd.raylet.eligibility import Eligibility
from aktisd.raylet.environments.host import LABEL, EnvironmentHost, LogFiles
from aktisd.raylet.gcs_stream import GcsStream
from aktisd.raylet.log_files import OldLogs
from aktisd.raylet.log_lines import LineSource
from aktisd.raylet.node import NodeLogic
from aktisd.raylet.oom import OomCounter
from aktisd.raylet.owner_frees import OwnerFrees
from aktisd.raylet.process_book import ProcessBook
from aktisd.raylet.publications import Fanout
from aktisd.raylet.reporting import ResourceReporter
from aktisd.raylet.resources import UNIT, positive
from aktisd.raylet.settings import NodeSettings
from aktisd.raylet.snapshots import Snapshots
from aktisd.raylet.store_capacity import StoreCapacity
from aktisd.raylet.templates import Templates
from aktisd.raylet.user_metrics import UserMetrics
from aktisd.raylet.worker_output import WorkerOutput

EXIT_GRACE_S: Final = 1.0
"""Between the message that asks a worker to end and SIGTERM."""
GRACEFUL_LIMIT_S: Final = 30.0
"""The same for an actor that may finish the calls it has."""
FAREWELL_LIMIT_S: Final = 0.5


class Raylet:
    """See the module."""

    def __init__(self, context: DaemonContext, settings: NodeSettings) -> None:
        config = context.config.raylet
        self._context = context
        self._settings = settings
        self._log = context.log
        self._loop = asyncio.get_running_loop()
        self.logic = NodeLogic(
            settings.total, settings.limits, settings.name, _new_token, settings.environment_limits
        )
        self.control = Control(self, settings.node_id)
        self.user_metrics = UserMetrics(self.control.has_driver)
        self.processes = proc.Processes(self._process_ended)
        self.templates = Templates(settings.template, self._template_lost)
        self.gcs = GcsStream(settings.gcs_address, context.token, self, config.gcs_retry_max_ms / 1000)
        # A worker connects to the store at its birth: none is forked before the store is there.
        self.frees = OwnerFrees(settings.plasma_grpc_address, context.token, self.templates.release)
        self.store = StoreCapacity(settings.plasma_grpc_address, context.token, self._store_capacity)
        self.deaths = DeathTable(config.deaths_kept)
        self.book = ProcessBook(config.deaths_kept, str(context.layout.log_dir))
        self._snapshots = self._make_snapshots()
        self._fanout = Fanout(lambda wish: self.gcs.send(gcs_pb2.NodeUp(subscription=wish)))
        self._output = WorkerOutput(
            Path(settings.template.log_dir),
            config.worker_logs,
            self._line_sources,
            self.control.log_reader,
        )
        self.lines, self._tail = self._output.lines, self._output.tail
        self._setup_logs = LogFiles(self._tail.follow, self._tail.finish, _new_token)
        self.environments = EnvironmentHost(
            settings.setup, self._gcs_call, self.submit, self.templates.add, self._setup_logs
        )
        self._gathered: list[m.Event] = []
        self._paths: dict[int, tuple[str, str]] = {}
        self._old_logs = OldLogs()
        self._doomed: set[int] = set()
        self._oom = OomCounter()
        self._tick: asyncio.TimerHandle | None = None
        self._reporter = ResourceReporter(
            self._resources, lambda update: self.gcs.send_resources(update), config.resource_report_ms / 1000
        )
        self.eligibility = Eligibility(settings.node_id, settings.name, settings.labels, self.logic.ledger)
        self._cluster_id = b""
        self.granted_total = 0
        self.deaths_total: Counter[str] = Counter()
        self._performers: dict[type, Callable[[Any], None]] = {
            m.ForkWorkers: lambda i: self.templates.fork(i.template, i.tokens),
            m.EndWorker: self._end_worker,
            m.SpareWorker: lambda i: self.processes.spare(i.token),
            m.Grant: self._grant,
            m.TellPending: self._tell_pending,
            m.TellLost: self._tell_lost,
            m.AskReclaim: self._ask_reclaim,
            m.RunActor: self._run_actor,
            m.ReportActor: lambda i: self.gcs.send(gcs_pb2.NodeUp(actor_report=i.report)),
            m.ReportBundles: lambda i: self.gcs.send(gcs_pb2.NodeUp(bundle_answers=i.answers)),
            m.ReportResources: lambda i: self._reporter.wanted(),
            m.ProcessEnded: self._forget_process,
            m.TellFailed: self._tell_failed,
            m.FetchEnvironment: lambda i: self.environments.fetch(i.name),
            m.PrepareEnvironment: self.environments.prepare,
            m.EndSetup: self.environments.end_setup,
            m.EndTemplate: lambda i: self.templates.end(i.name),
            m.RemoveCached: lambda i: self.environments.remove(i),
        }

    def _make_snapshots(self) -> Snapshots:
        return Snapshots(
            snapshot_pb2.NodeSnapshot(node_id=self._settings.node_id, ip=self._settings.ip),
            self._context.layout.log_dir,
            self.control.clients,
            self.book,
            self.logic.environments.describe,
            lambda answer: self.gcs.send(gcs_pb2.NodeUp(snapshot=answer)),
            self._loop.call_later,
            self._aside,
        )

    def _aside(self, blocking: Callable[[], None], then: Callable[[], None]) -> None:
        self._loop.run_in_executor(None, blocking).add_done_callback(lambda _: then())

    # ---- life ----

    def start(self) -> None:
        """Start the template and the first workers."""
        proc.become_subreaper()
        # Not add_signal_handler: uvloop keeps SIGCHLD to itself. It runs Python's own handlers on its thread.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: self._loop.call_soon(self._reap))
        for key, size_bytes in self.environments.start().items():
            self.logic.environments.cache.found(key, size_bytes)
        self.templates.start()
        self.submit(m.Tick())

    async def stop(self, grace_s: float) -> None:
        """End every process of this node: politely, then by force. Nothing is left."""
        self.templates.stop()
        self.environments.stop()
        if self._tick is not None:
            self._tick.cancel()
        self._reporter.stop()
        why = cause(Kind.NODE_DIED, "the raylet of its node was stopped")
        # Instructions are not carried out one by one: every process gets SIGTERM at once.
        self.logic.close(why, self._loop.time())
        for worker in self.logic.pool:
            self.processes.terminate(worker.token, term_after_s=0.0, kill_after_s=grace_s)
        for pid in self.templates.pids():
            # Only after the workers: it reports their ends. It has no state of its own.
            self._loop.call_later(0.0, proc.kill_group, pid)
        try:
            async with asyncio.timeout(grace_s + 1.0):
                await self.processes.wait_all_gone()
        except TimeoutError:
            self._log.error("workers_survive", pids=self.processes.pids())
        for worker in self.logic.pool:
            self._remove_socket(worker.worker_id)
        proc.kill_sessions(set(self.processes.pids()))
        for pid in proc.descendants():
            proc.kill_one(pid)
        self._reap()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            async with asyncio.timeout(FAREWELL_LIMIT_S):
                await self.gcs.leave("the raylet was stopped")
        except TimeoutError:
            self._log.warning("farewell_not_sent")
        self._output.close()

    def submit(self, *events: m.Event) -> None:
        """Take events that came together into the node's logic and carry out what follows."""
        gathered, self._gathered = self._gathered, []
        self._perform(self.logic.handle(*gathered, *events, now=self._loop.time()))

    def submit_soon(self, event: m.Event) -> None:
        """The same, together with whatever else is read in this round of the loop."""
        if not self._gathered:
            self._loop.call_soon(self._submit_gathered)
        self._gathered.append(event)

    def _submit_gathered(self) -> None:
        if self._gathered:
            self.submit()

    def _perform(self, instructions: list[m.Instruction]) -> None:
        for instruction in instructions:
            self._performers[type(instruction)](instruction)
        self._arm_tick()
        self._reporter.performed()

    def _arm_tick(self) -> None:
        due = self.logic.deadline()
        if due is None or (self._tick is not None and self._tick.when() <= due):
            return
        if self._tick is not None:
            self._tick.cancel()
        self._tick = self._loop.call_at(due, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self.submit(m.Tick())

    def _store_capacity(self, capacity_bytes: int) -> None:
        self.submit(m.TotalChanged("object_store_memory", capacity_bytes * UNIT))

    # ---- instructions ----

    def _grant(self, grant: m.Grant) -> None:
        owner = self.control.session(grant.client)
        address = common_pb2.ProcessAddress(worker_id=grant.client)
        reply = raylet_pb2.LeasesGranted(class_key=grant.class_key, others_wait=grant.others_wait)
        for granted in grant.leases:
            devices = _devices(granted.devices)
            reply.leases.add(lease_id=granted.lease_id, worker=granted.worker, devices=devices)
            assignment = raylet_pb2.AssignLease(
                lease_id=granted.lease_id,
                job_id=granted.job_id,
                resources=common_pb2.Resources(amounts=granted.amounts),
                devices=devices,
                owner=address,
                runtime_env_hash=granted.environment,
            )
            self.control.send_to(granted.worker.worker_id, Reply(assign_lease=assignment))
        self.granted_total += len(grant.leases)
        if owner is not None:
            owner.send_message(Reply(leases_granted=reply))

    def _tell_pending(self, pending: m.TellPending) -> None:
        message = raylet_pb2.LeasesPending(
            class_key=pending.class_key,
            infeasible=pending.infeasible,
            explanation=pending.explanation,
            stuck=pending.stuck,
        )
        self.control.send_to(pending.client, Reply(leases_pending=message))

    def _tell_failed(self, failed: m.TellFailed) -> None:
        message = raylet_pb2.LeasesFailed(class_key=failed.class_key, reason=failed.reason)
        self.control.send_to(failed.client, Reply(leases_failed=message))

    def _tell_lost(self, lost: m.TellLost) -> None:
        message = raylet_pb2.LeaseLost(lease_id=lost.lease_id, worker_id=lost.worker_id, cause=lost.cause)
        self.control.send_to(lost.client, Reply(lease_lost=message))

    def _ask_reclaim(self, ask: m.AskReclaim) -> None:
        self.control.send_to(ask.client, Reply(reclaim_idle=raylet_pb2.ReclaimIdle(excess=ask.excess)))

    def _run_actor(self, run: m.RunActor) -> None:
        worker = self.logic.pool.by_token(run.token)
        if worker is not None:
            message = raylet_pb2.RunActor(
                spec=run.spec, incarnation=run.incarnation, devices=_devices(run.devices)
            )
            self.control.send_to(worker.worker_id, Reply(run_actor=message))
            self.book.became_actor(worker.worker_id, run.spec.actor_id)

    def _end_worker(self, end: m.EndWorker) -> None:
        worker = self.logic.pool.by_token(end.token)
        if worker is None:
            return
        if worker.pid == 0:
            self._doomed.add(end.token)  # ended as soon as it is forked
            return
        if end.force:
            self.processes.kill(end.token)
            return
        message = raylet_pb2.Exit(graceful=end.graceful, cause=end.cause)
        self.control.send_to(worker.worker_id, Reply(exit=message))
        term_after_s = GRACEFUL_LIMIT_S if end.graceful else EXIT_GRACE_S
        kill_after_s = term_after_s + self._context.config.raylet.workers.stop_grace_ms / 1000
        self.processes.terminate(end.token, term_after_s=term_after_s, kill_after_s=kill_after_s)

    def _forget_process(self, ended: m.ProcessEnded) -> None:
        self._doomed.discard(ended.token)
        kind = enum_name(Kind.DESCRIPTOR, ended.cause.kind)
        self.deaths_total[kind] += 1
        self._log.info("worker_ended", pid=ended.cause.pid, cause=kind, reason=ended.cause.message)
        if ended.worker_id:
            self._remove_socket(ended.worker_id)
            self.deaths.record(ended.worker_id, ended.cause)
            self.book.ended(ended.worker_id, ended.cause)
            self.frees.add(ended.worker_id)
            gone = gcs_pb2.ProcessDied(worker_id=ended.worker_id, cause=ended.cause)
            self.gcs.send(gcs_pb2.NodeUp(process_died=gone))

    def _remove_socket(self, worker_id: bytes) -> None:
        """A process that was killed, or that left without cleaning up, leaves its socket behind."""
        self._context.layout.worker_socket(worker_id).unlink(missing_ok=True)

    # ---- processes ----

    def _reap(self) -> None:
        for pid, exit_code, signal_number in proc.reap():
            known = self.templates.exited(pid, exit_code, signal_number)
            if not known and not self.environments.exited(pid, exit_code, signal_number):
                self.processes.exited(pid, exit_code, signal_number)

    def _template_lost(self, name: str, reason: str) -> None:
        # Later, because a template can be found lost in the middle of carrying instructions out.
        self._loop.call_soon(self.submit, m.TemplateLost(reason, name))

    def template_connected(self, session: Session) -> bool:
        """A template says hello; False when it is not ours."""
        return self.templates.connected(session)

    def children_forked(self, message: raylet_pb2.TemplateForked) -> None:
        """The template reports new workers."""
        for child in message.children:
            if child.error:
                self.submit(m.Forked(child.start_token, 0, child.error))
                continue
            self._paths[child.start_token] = (child.stdout_path, child.stderr_path)
            self.processes.watch(child.start_token, child.pid)
            self._tail.follow(child.start_token, child.stdout_path, child.stderr_path)
            known = self.logic.pool.by_token(child.start_token) is not None
            if known:
                self.submit(m.Forked(child.start_token, child.pid))
            if not known or child.start_token in self._doomed:
                self.processes.kill(child.start_token)

    def children_exited(self, message: raylet_pb2.TemplateChildExited) -> None:
        """The template reports dead workers."""
        for child in message.children:
            self.processes.exited(child.pid, child.exit_code, child.signal)

    def _process_ended(self, ended: proc.Ended) -> None:
        worker = self.logic.pool.by_token(ended.token)
        stdout_path, stderr_path = self._paths.pop(ended.token, ("", ""))
        unexpected_kill = ended.signal == signal.SIGKILL and worker is not None and worker.intended is None
        seen = observed(
            ended.pid,
            ended.exit_code,
            ended.signal,
            known=ended.known,
            out_of_memory=unexpected_kill and self._oom.grew(),
        )
        seen.stderr_tail = proc.read_tail(stderr_path, STDERR_TAIL_BYTES) if stderr_path else ""
        seen.node_id = self._settings.node_id
        seen.time_unix_ms = time.time_ns() // 1_000_000
        if stdout_path:
            self._tail.finish(stdout_path, stderr_path)
            self._old_logs.keep(stdout_path, stderr_path)
        worker_id = worker.worker_id if worker is not None else b""
        self.control.hear_out(worker_id, lambda: self.submit(m.WorkerDied(ended.token, seen)))

    # ---- clients ----

    def worker_joined(self, session: Session, event: m.WorkerJoined, request_id: int) -> None:
        """A worker registers; ValueError when it is not expected."""
        instructions = self.logic.handle(event, now=self._loop.time())
        self.processes.watch(event.token, session.pid)
        out, err = self._paths.get(event.token, ("", ""))
        self.book.joined(session.worker_id, session.pid, is_driver=False, stdout_path=out, stderr_path=err)
        registered = raylet_pb2.WorkerRegistered(node=self._facts())
        session.send_message(Reply(request_id=request_id, worker_registered=registered))
        self._perform(instructions)

    def driver_joined(self, session: Session, job: gcs_pb2.Job, request_id: int) -> None:
        """A driver has its job."""
        registered = raylet_pb2.DriverRegistered(job=job, node=self._facts())
        session.send_message(Reply(request_id=request_id, driver_registered=registered))
        self.book.joined(session.worker_id, session.pid, is_driver=True)
        self._log.info("driver_joined", job=job.job_id, pid=session.pid)
        self.submit(m.DriverJoined(session.worker_id, job.job_id))

    def driver_gone(self, session: Session) -> None:
        """A registered driver's connection closed."""
        self._log.info("driver_gone", job=session.job_id, pid=session.pid)
        self.lines.forget(session.job_id)
        died = cause(Kind.EXITED, f"the driver (pid {session.pid}) disconnected")
        self._remove_socket(session.worker_id)
        self.deaths.record(session.worker_id, died)
        self.book.ended(session.worker_id, died)
        self.frees.add(session.worker_id)
        self.job_without_driver(session.job_id)

    def job_without_driver(self, job_id: bytes) -> None:
        """Tell the GCS that the job is over."""
        ended = gcs_pb2.JobEnded(job_id=job_id, reason="its driver disconnected")
        self.gcs.send(gcs_pb2.NodeUp(job_ended=ended))

    def job_of(self, worker_id: bytes) -> bytes:
        """The job that a worker serves now; empty for none."""
        worker = self.logic.pool.by_id(worker_id)
        return worker.job_id if worker is not None else b""

    def gcs_call(
        self,
        call: raylet_pb2.GcsCall,
        worker_id: bytes,
        timeout_s: float,
        on_reply: Callable[[gcs_pb2.RelayReply], None],
    ) -> None:
        """Relay a call."""
        self.gcs.call(call.method, call.payload, worker_id, timeout_s, on_reply)

    def _gcs_call(
        self, method: str, payload: bytes, timeout_s: float, on_reply: Callable[[gcs_pb2.RelayReply], None]
    ) -> None:
        self.gcs.call(method, payload, b"", timeout_s, on_reply)

    def snapshot_taken(self, session: Session, snapshot: snapshot_pb2.ProcessSnapshot) -> None:
        """A process says what it knows."""
        self._snapshots.answered(session, self.control.has_driver(session.job_id), snapshot)

    def task_events(self, batch: common_pb2.TaskEventBatch) -> None:
        """Pass task events on."""
        self.gcs.add_task_events(batch)

    def metric_batch(self, worker_id: bytes, job_id: bytes, batch: raylet_pb2.MetricBatch) -> None:
        """Add what user code has measured; ValueError when it is malformed."""
        self.user_metrics.record(worker_id, job_id, batch)

    def metrics_end(self, worker_id: bytes, job_id: bytes) -> None:
        """A process that may have measured something has left."""
        self.user_metrics.process_gone(worker_id, job_id)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something on the loop later."""
        self._loop.call_later(delay_s, action)

    def subscribe(self, session: Session, request: raylet_pb2.Subscribe) -> None:
        """Deliver a channel's publications; ValueError when there is no such channel."""

        def deliver(publication: gcs_pb2.Publication) -> None:
            session.send_message(Reply(publication=publication))

        self._fanout.subscribe(session.worker_id, request.channel, request.after_sequence, deliver)

    def unsubscribe(self, session: Session) -> None:
        """Stop delivering to a process that has left, and wait for no answer of it."""
        self._fanout.unsubscribe(session.worker_id)
        self._snapshots.gone(session.worker_id)

    def ask_death(self, worker_id: bytes, answer: Callable[[Cause | None], None], timeout_s: float) -> None:
        """Find out why a process died; at once when it is known or when nobody of that id is here."""
        alive = self.logic.pool.by_id(worker_id) is not None or self.control.session(worker_id) is not None
        until = self._loop.time() + timeout_s if alive else None
        self.deaths.ask(worker_id, answer, until)
        if until is not None:
            self._loop.call_at(until, self._expire_askers)

    def _expire_askers(self) -> None:
        self.deaths.expire(self._loop.time())

    def _facts(self) -> raylet_pb2.NodeFacts:
        return raylet_pb2.NodeFacts(
            node_id=self._settings.node_id,
            node_ip=self._settings.ip,
            session_dir=str(self._context.layout.root),
            plasma_address=self._settings.plasma_address,
            sockets_dir=str(self._context.layout.sockets_dir),
            gcs_address=self._settings.gcs_address,
            cluster_id=self._cluster_id,
            timeout_grace_ms=round(self._context.config.raylet.workers.timeout_grace_s * 1000),
            limits=raylet_pb2.CoreLimits(**self._context.config.core.model_dump()),
        )

    # ---- logs ----

    def finish_output(self, job_id: bytes) -> None:
        """Send a job's driver all that its workers have printed."""
        workers = self.logic.pool
        self._output.finish_job(job_id, {worker.token for worker in workers if worker.job_id == job_id})

    def _line_sources(self, token: int, is_stderr: bool) -> list[LineSource]:
        """Who printed; a set-up prints for every job that asked for its environment."""
        worker = self.logic.pool.by_token(token)
        if worker is not None:
            return [LineSource(worker.job_id, worker.worker_id, worker.pid, worker.label, is_stderr)]
        name, pid = self._setup_logs.source(token) or ("", 0)
        return [LineSource(job, b"", pid, LABEL, True) for job in self.logic.environments.jobs(name)]

    # ---- the GCS ----

    def registration(self) -> gcs_pb2.NodeRegister:
        """The node's truth now."""
        return gcs_pb2.NodeRegister(
            node=self.node(),
            protocol_major=PROTOCOL_MAJOR,
            protocol_minor=PROTOCOL_MINOR,
            running_actors=self.logic.actors.reports(),
            bundles=self.logic.bundles.reports(),
            live_jobs=self.logic.live_jobs(),
            subscriptions=self._fanout.subscriptions(),
            live_processes=gcs_pb2.ProcessList(worker_ids=self.control.worker_ids()),
        )

    def registered(self, reply: gcs_pb2.NodeRegistered) -> None:
        """The GCS knows this node."""
        self._cluster_id = reply.cluster_id
        self._reporter.registered()
        self._log.info("registered_with_gcs", term=reply.term)

    def received(self, message: gcs_pb2.NodeDown) -> None:
        """Something for the node."""
        kind = message.WhichOneof("body")
        if kind == "start_actor":
            start = message.start_actor
            self.submit(m.ActorWanted(start.spec, start.incarnation, start.bundle_index))
        elif kind == "stop_actor":
            stop = message.stop_actor
            self.submit(m.ActorUnwanted(stop.actor_id, stop.incarnation, stop.graceful, stop.cause))
        elif kind == "publication":
            self._fanout.publish(message.publication)
        elif kind == "job_ended":
            self.submit(m.JobOver(message.job_ended.job_id, message.job_ended.reason))
        elif kind == "bundle_orders":
            self._bundle_orders(message.bundle_orders.orders)
        elif kind == "take_snapshot":
            self._snapshots.take(message.take_snapshot)
        elif kind == "room_wanted":
            self.submit(m.RoomWanted())
        else:
            self._log.warning("gcs_message_unknown", kind=str(kind))

    def _bundle_orders(self, orders: Sequence[gcs_pb2.BundleOrder]) -> None:
        events = [m.BUNDLE_EVENTS[str(order.WhichOneof("order"))](order) for order in orders]
        if orders[0].HasField("prepare"):  # the GCS waits for it
            self.submit(*events)
            return
        # After the loop's next round, in which what came with it for processes of this node is written.
        self._gathered += events
        self._loop.call_soon(self._loop.call_soon, self._submit_gathered)

    def heartbeat(self) -> gcs_pb2.NodeHeartbeat:
        """The next heartbeat, without its sequence number."""
        return gcs_pb2.NodeHeartbeat(loop_lag_s=self._context.loop_lag_s, daemons=self._daemons())

    def node(self) -> gcs_pb2.Node:
        """This node as the cluster sees it."""
        ledger = self.logic.ledger
        return gcs_pb2.Node(
            node_id=self._settings.node_id,
            hostname=self._settings.hostname,
            ip=self._settings.ip,
            state=gcs_pb2.Node.ALIVE,
            total=common_pb2.Resources(amounts=ledger.total),
            available=common_pb2.Resources(amounts=positive(ledger.available)),
            labels=self._settings.labels,
            is_head=self._context.config.cluster.is_head,
            daemons=self._daemons(),
            start_time_unix_ms=self._settings.start_time_unix_ms,
            raylet_socket=self._settings.control_address,
            version=VERSION,
            session_dir=str(self._context.layout.root),
        )

    def pending(self) -> list[gcs_pb2.PendingDemand]:
        """What waits for resources, by equal amounts."""
        return [
            gcs_pb2.PendingDemand(resources=common_pb2.Resources(amounts=amounts), count=count)
            for amounts, count in self.logic.scheduler.pending()
        ]

    def _daemons(self) -> list[gcs_pb2.Daemon]:
        records = [self._context.record, DaemonRecord.read(self._context.layout.daemon_record("plasma"))]
        return [
            gcs_pb2.Daemon(
                name=record.name,
                pid=record.pid,
                epoch=record.epoch,
                grpc_address=record.grpc_address,
                metrics_address=record.metrics_address,
                state=record.state,
            )
            for record in records
            if record is not None
        ]

    def _resources(self) -> gcs_pb2.ResourceUpdate:
        ledger = self.logic.ledger
        return gcs_pb2.ResourceUpdate(
            total=common_pb2.Resources(amounts=ledger.total),
            available=common_pb2.Resources(amounts=positive(ledger.available)),
            pending=self.pending(),
            bundles=self.logic.bundles.usage(),
        )


def _new_token() -> int:
    return secrets.randbits(63) or 1


def _devices(devices: dict[str, tuple[int, ...]] | Any) -> dict[str, raylet_pb2.DeviceList]:
    return {name: raylet_pb2.DeviceList(indexes=indexes) for name, indexes in devices.items()}
