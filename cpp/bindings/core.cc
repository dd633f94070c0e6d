// aktis._core.Core.
#include "core/core.h"

#include <pthread.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <span>

#include "bindings/results.h"

namespace aktis::bindings {
namespace {

std::shared_ptr<Core>& running() {
  static auto* core = new std::shared_ptr<Core>();  // outlives static destruction on purpose
  return *core;
}

// getpid() is a system call, and each use of the core asks whether it still runs in the process that made it.
// 0 when not known: after fork() in the child, too.
std::atomic<pid_t> known_process_id{0};

pid_t process_id() {
  pid_t pid = known_process_id.load(std::memory_order_relaxed);
  if (pid == 0) known_process_id.store(pid = getpid(), std::memory_order_relaxed);
  return pid;
}

// Python owns the core through this; the process's ObjectRefs keep it alive too.
struct PyCore {
  std::shared_ptr<Core> core;
  pid_t pid = process_id();
  // Events of Python's own, under the GIL. Bounded by what they are about: one per handle that was dropped
  // (each smaller than the handle was), one per task in flight that may be retried, one stop.
  std::deque<py::object> posted;

  Core& get() const {
    if (process_id() != pid) {
      throw std::runtime_error(
          "this process was forked from one that uses Aktis; it must not use its parent's connection. Call "
          "aktis.init() in the child or start it with the 'spawn' method");
    }
    return *core;
  }
  // For what only makes sense while the session lasts.
  Core& open() const {
    Core& live = get();
    if (live.closed()) {
      raise(hooks().session_ended("this session has ended; what belongs to it can no longer be used"));
    }
    return live;
  }
};

PyCore make_core(int role, const py::bytes& worker_id, std::string token, std::string raylet_address,
                 int linger_us, int blocked_after_ms) {
  core::CoreConfig config;
  config.role = static_cast<wire::Role>(role);
  config.worker = id_from<WorkerId>(worker_id);
  config.token = std::move(token);
  config.raylet_address = std::move(raylet_address);
  config.linger = std::chrono::microseconds(linger_us);
  config.blocked_after = std::chrono::milliseconds(blocked_after_ms);
  PyCore self{std::make_shared<Core>(std::move(config)), process_id(), {}};
  set_current_core(self.core);
  return self;
}

void set_limits(PyCore& self, std::size_t inline_bytes, std::size_t inline_arguments_bytes,
                std::size_t in_flight_bytes, std::size_t lineage_bytes, std::size_t control_queue_bytes,
                std::size_t actor_window_calls, std::size_t actor_window_bytes, std::uint32_t pipeline_depth,
                int lease_grace_ms, std::size_t stream_bytes, int spin_us, int fetch_timeout_ms) {
  core::CoreLimits limits;
  limits.inline_bytes = inline_bytes;
  limits.inline_arguments_bytes = inline_arguments_bytes;
  limits.in_flight_bytes = in_flight_bytes;
  limits.lineage_bytes = lineage_bytes;
  limits.control_queue_bytes = control_queue_bytes;
  limits.actor_window = {.calls = actor_window_calls, .bytes = actor_window_bytes};
  limits.scheduling.max_depth = pipeline_depth;
  limits.scheduling.lease_grace = std::chrono::milliseconds(lease_grace_ms);
  limits.stream_bytes = stream_bytes;
  limits.spin = std::chrono::microseconds(spin_us);
  limits.fetch_timeout = std::chrono::milliseconds(fetch_timeout_ms);
  self.core->set_limits(limits);
}

// ---- objects ----

ObjectId id_of(PyCore& self, const py::object& ref) {
  return ids_of(*self.core, py::make_tuple(ref)).front();
}

py::object get(PyCore& self, const py::sequence& refs, double timeout_s) {
  Core& core = self.open();
  const std::vector<ObjectId> ids = ids_of(core, refs);
  if (!wait_readable(core, ids, deadline_after(timeout_s))) return py::none();
  py::list values(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto value = self.core->read(ids[i]);
    if (!value) {
      self.open();
      throw py::value_error("object " + ids[i].hex() + " cannot be read");
    }
    values[i] = deserialize(self.core, ids[i], *value, Cover::by_object(ids[i]));
  }
  return values;
}

// ---- submitting ----

void wait_for_room(Core& core) {
  if (core.has_room()) return;
  hooks().about_to_block("for room among the arguments of unfinished tasks (core.in_flight_bytes)");
  wire::Waiter waiter;
  core.attach_room(waiter);
  struct Detach {
    Core& core;
    wire::Waiter& waiter;
    ~Detach() { core.detach_room(waiter); }
  } const detach{core, waiter};
  wait_with_signals(core, waiter, wire::TimePoint::max(), waiting_task(core));
}

py::object submit_call(PyCore& self, const ActorId& actor, const PyTaskTemplate& shape, const py::tuple& args,
                       const py::object& kwargs, bool may_wait = true) {
  Core& core = self.open();
  if (may_wait) wait_for_room(core);
  PreparedCall call;
  prepare_call(self.core, shape, args, kwargs, call);
  call.submission.actor = actor;
  set_parent(call.submission, running_task());
  const std::vector<ObjectId> returns = core.submit(std::move(call.submission));
  if (returns.empty()) return py::none();
  if (returns.size() == 1) return py::reinterpret_steal<py::object>(make_object_ref(self.core, returns[0]));
  py::list refs;
  for (const ObjectId& id : returns)
    refs.append(py::reinterpret_steal<py::object>(make_object_ref(self.core, id)));
  return refs;
}

py::object encode_creation(PyCore& self, const PyTaskTemplate& shape, const py::bytes& actor_id,
                           const py::tuple& args, const py::object& kwargs, const PyTask* parent) {
  self.open();
  PreparedCall call;
  prepare_call(self.core, shape, args, kwargs, call);
  call.submission.actor = id_from<ActorId>(actor_id);
  set_parent(call.submission, parent != nullptr ? parent->task : nullptr);
  const auto payload = self.core->encode_creation(call.submission, self.core->next_task_id());
  if (!payload) return py::none();
  py::list held;
  const auto hold = [&](const ObjectId& id) {
    self.core->add_local(id);
    held.append(py::reinterpret_steal<py::object>(make_object_ref(self.core, id)));
  };
  for (const core::Argument& argument : call.submission.arguments) hold(argument.ref.id);
  for (const ObjectId& nested : call.submission.nested) hold(nested);
  return py::make_tuple(py::bytes(reinterpret_cast<const char*>(payload->data()), payload->size()), held);
}

// ---- executing ----

py::object next_task(PyCore& self, const std::string& group, double timeout_s) {
  Core& core = self.get();
  const auto deadline = deadline_after(timeout_s);
  wire::Waiter waiter;
  for (;;) {
    core::TaskHandle task = core.next_task(group, waiter);
    if (task) return py::cast(PyTask{self.core, std::move(task)});
    bool woken;
    {
      const py::gil_scoped_release release;
      Core::BlockScope scope(core, nullptr);
      woken = core.wait(waiter, deadline, scope);
    }
    core.detach_group(group, waiter);
    if (!woken || core.closed()) return py::none();
    waiter.reset();
  }
}

void begin(PyCore& self, const py::object& task) {
  self.core->begin_execution(py::cast<PyTask&>(task).task);
  set_running_task(task);
}

void fail(PyCore& self, PyTask& task, const py::bytes& error, bool cancelled, const std::string& text,
          const py::sequence& references) {
  std::vector<core::ResultParts> results(1);
  for (const ObjectId& id : ids_of(*self.core, references))
    results[0].nested.push_back(self.core->ref_of(id));
  results[0].value = core::OwnedValue::make(core::ValueKind::kError, view_of(error), {});
  self.core->finish(task.task, cancelled ? core::TaskStatus::kCancelled : core::TaskStatus::kError,
                    std::move(results), text);
}

// ---- control ----

py::object call(PyCore& self, const py::bytes& request, std::uint64_t request_id, double timeout_s) {
  Core& core = self.get();
  Core::Call pending;
  core.begin_call(request_id, view_of(request), pending);
  struct End {
    Core& core;
    std::uint64_t request_id;
    ~End() { core.end_call(request_id); }
  } const end{core, request_id};
  const bool answered = wait_with_signals(core, pending.waiter, deadline_after(timeout_s), running_task());
  if (pending.failed) {
    PyErr_SetString(PyExc_ConnectionError, "the raylet is gone");
    throw py::error_already_set();
  }
  if (!answered) return py::none();
  return py::bytes(pending.answer);
}

py::list next_events(PyCore& self, double timeout_s) {
  py::list all;
  while (!self.posted.empty()) {
    all.append(self.posted.front());
    self.posted.pop_front();
  }
  std::vector<core::Event> events;
  {
    const auto deadline = all.empty() ? deadline_after(timeout_s) : wire::Clock::now();
    const py::gil_scoped_release release;
    events = self.core->next_events(deadline);
  }
  for (const py::handle event : to_python(events)) all.append(event);
  while (!self.posted.empty()) {
    all.append(self.posted.front());
    self.posted.pop_front();
  }
  return all;
}

void connection_error(const std::exception& error) {
  PyErr_SetString(PyExc_ConnectionError, error.what());
  throw py::error_already_set();
}

template <typename Step>
void connecting(Step step) {
  try {
    const py::gil_scoped_release release;
    step();
  } catch (const std::exception& error) {
    connection_error(error);
  }
}

py::dict statistics(PyCore& self) {
  py::dict all;
  for (const auto& [name, value] : self.core->statistics()) all[py::str(name)] = value;
  return all;
}

py::list references(PyCore& self, std::size_t limit) {
  py::list all;
  for (const auto& [id, counts] : self.core->references(limit)) {
    py::dict one;
    one["object_id"] = to_bytes(id);
    one["owner"] = to_bytes(counts.owner);
    one["local"] = counts.local;
    one["task_uses"] = counts.task_uses;
    one["containers"] = counts.containers;
    one["return_holds"] = counts.return_holds;
    one["borrowers"] = counts.borrowers;
    all.append(one);
  }
  return all;
}

std::vector<std::uint64_t> reclaim_leases(PyCore& self, std::uint32_t excess) {
  return self.core->reclaim_leases(excess);
}

using Class = py::class_<PyCore>;

void bind_life(Class& type) {
  type.def(py::init(&make_core), py::kw_only(), py::arg("role"), py::arg("worker_id"), py::arg("token"),
           py::arg("raylet_address"), py::arg("linger_us") = 1000, py::arg("blocked_after_ms") = 5)
      .def("set_limits", &set_limits, py::kw_only(), py::arg("inline_bytes"),
           py::arg("inline_arguments_bytes"), py::arg("in_flight_bytes"), py::arg("lineage_bytes"),
           py::arg("control_queue_bytes"), py::arg("actor_window_calls"), py::arg("actor_window_bytes"),
           py::arg("pipeline_depth"), py::arg("lease_grace_ms"), py::arg("stream_bytes"), py::arg("spin_us"),
           py::arg("fetch_timeout_ms"))
      .def(
          "connect_raylet",
          [](PyCore& self, double timeout_s) {
            connecting([&] { self.core->connect_raylet(deadline_after(timeout_s)); });
          },
          py::arg("timeout_s"))
      .def(
          "listen", [](PyCore& self, const std::string& dir) { return self.core->listen(dir); },
          py::arg("sockets_dir"))
      .def(
          "connect_plasma",
          [](PyCore& self, const std::string& address, double timeout_s) {
            connecting([&] { self.core->connect_plasma(address, deadline_after(timeout_s)); });
          },
          py::arg("address"), py::arg("timeout_s"))
      .def(
          "set_identity",
          [](PyCore& self, const py::bytes& node, const py::bytes& job) {
            self.core->set_identity(id_from<NodeId>(node), id_from<JobId>(job));
          },
          py::kw_only(), py::arg("node_id"), py::arg("job_id"))
      .def("close",
           [](PyCore& self) {
             const py::gil_scoped_release release;
             if (process_id() == self.pid) self.core->close();
             if (running() == self.core) set_current_core(nullptr);
           })
      .def(
          "set_hooks",
          [](PyCore&, const py::object& serialize_hook, const py::object& load_error,
             const py::object& store_full, const py::object& fetch_timed_out, const py::object& session_ended,
             const py::object& cannot_load, const py::object& about_to_block,
             const py::object& large_argument) {
            hooks() = {serialize_hook, load_error,  store_full,     fetch_timed_out,
                       session_ended,  cannot_load, about_to_block, large_argument};
          },
          py::kw_only(), py::arg("serialize"), py::arg("load_error"), py::arg("store_full"),
          py::arg("fetch_timed_out"), py::arg("session_ended"), py::arg("cannot_load"),
          py::arg("about_to_block"), py::arg("large_argument") = py::none())
      .def("call", &call, py::arg("request"), py::arg("request_id"), py::arg("timeout_s"))
      .def("next_request_id", [](PyCore& self) { return self.core->next_request_id(); })
      .def("notify", [](PyCore& self, const py::bytes& message) { self.get().notify(view_of(message)); })
      .def("next_events", &next_events, py::arg("timeout_s"))
      .def("post_event",
           [](PyCore& self, const py::tuple& event) {
             self.posted.push_back(event);
             self.core->post_wake();
           })
      .def("statistics", &statistics)
      .def("references", &references, py::arg("limit"))
      .def(
          "snapshot",
          [](PyCore& self, bool tasks, bool objects, std::size_t limit) {
            std::vector<std::byte> encoded;
            {
              const py::gil_scoped_release release;
              encoded = self.core->snapshot(tasks, objects, limit);
            }
            return py::bytes(reinterpret_cast<const char*>(encoded.data()), encoded.size());
          },
          py::arg("tasks"), py::arg("objects"), py::arg("limit"));
}

void bind_objects(Class& type) {
  type.def("put",
           [](PyCore& self, const py::object& value) { return self.open(), put_value(self.core, value); })
      .def("get", &get, py::arg("refs"), py::arg("timeout_s"))
      .def(
          "wait",
          [](PyCore& self, const py::object& refs, std::size_t num_returns, double timeout_s, bool fetch) {
            return wait_ready(self.open(), refs, num_returns, timeout_s, fetch);
          },
          py::arg("refs"), py::arg("num_returns"), py::arg("timeout_s"), py::arg("fetch_local"))
      .def("task_of", [](PyCore& self, const py::object& ref) { return to_bytes(id_of(self, ref).task()); })
      .def("is_ready", [](PyCore& self, const py::object& ref) { return self.get().ready(id_of(self, ref)); })
      .def("awaits_owner",
           [](PyCore& self, const py::object& ref) { return self.get().awaits_owner(id_of(self, ref)); })
      .def(
          "watch",
          [](PyCore& self, const py::object& ref, bool value) {
            return self.open().watch(id_of(self, ref), value);
          },
          py::arg("ref"), py::arg("value") = false)
      .def("watch_free", [](PyCore& self, const py::object& ref) { self.get().watch_free(id_of(self, ref)); })
      .def("free", [](PyCore& self, const py::object& ref,
                      const py::bytes& error) { self.open().free(id_of(self, ref), view_of(error)); })
      .def("fail_object",
           [](PyCore& self, const py::bytes& id, const py::bytes& error) {
             self.core->fail_object(id_from<ObjectId>(id), view_of(error));
           })
      .def("reconstruct",
           [](PyCore& self, const py::bytes& id) { return self.core->reconstruct(id_from<ObjectId>(id)); })
      .def(
          "pending_object",
          [](PyCore& self) {
            return py::reinterpret_steal<py::object>(make_object_ref(self.core, self.get().pending_object()));
          })
      .def("complete_object", [](PyCore& self, const py::object& ref, const py::object& value) {
        Serialized serialized;
        serialize(value, true, serialized);
        self.core->complete_object(id_of(self, ref), serialized.parts);
      });
}

void bind_submitting(Class& type) {
  type.def("submit",
           [](PyCore& self, const PyTaskTemplate& shape, const py::tuple& args, const py::object& kwargs) {
             return submit_call(self, ActorId{}, shape, args, kwargs);
           })
      .def("submit_actor",
           [](PyCore& self, const py::bytes& actor, const PyTaskTemplate& shape, const py::tuple& args,
              const py::object& kwargs) {
             return submit_call(self, id_from<ActorId>(actor), shape, args, kwargs);
           })
      .def("submit_marker",
           [](PyCore& self, const py::bytes& actor, const PyTaskTemplate& shape) {
             return submit_call(self, id_from<ActorId>(actor), shape, py::tuple(), py::none(), false);
           })
      .def("encode_creation", &encode_creation)
      .def("add_lease",
           [](PyCore& self, std::uint64_t key, std::uint64_t lease, const py::bytes& worker,
              const std::string& address) {
             self.core->add_lease(key, lease, id_from<WorkerId>(worker), address);
           })
      .def("drop_lease", [](PyCore& self, std::uint64_t lease) { return self.core->drop_lease(lease); })
      .def("break_lease", [](PyCore& self, std::uint64_t lease,
                             const std::string& reason) { self.core->break_lease(lease, reason); })
      .def("reclaim_leases", &reclaim_leases, py::arg("excess"))
      .def("set_infeasible", [](PyCore& self, std::uint64_t key,
                                bool infeasible) { self.core->set_infeasible(key, infeasible); })
      .def("end_class", [](PyCore& self, std::uint64_t key) { self.core->end_class(key); })
      .def(
          "fail_class",
          [](PyCore& self, std::uint64_t key, const py::bytes& error, const std::string& text) {
            return self.core->fail_class(key, view_of(error), text);
          },
          py::arg("class_key"), py::arg("error"), py::arg("text") = "")
      .def(
          "resubmit",
          [](PyCore& self, const py::bytes& task, int delay_ms) {
            return self.core->resubmit(id_from<TaskId>(task), std::chrono::milliseconds(delay_ms));
          },
          py::arg("task_id"), py::arg("delay_ms") = 0)
      .def(
          "fail_task",
          [](PyCore& self, const py::bytes& task, const py::bytes& error, const std::string& text) {
            return self.core->fail_task(id_from<TaskId>(task), view_of(error), text);
          },
          py::arg("task_id"), py::arg("error"), py::arg("text") = "")
      .def("cancel",
           [](PyCore& self, const py::bytes& task, bool recursive, const py::bytes& error) {
             return static_cast<int>(self.core->cancel(id_from<TaskId>(task), recursive, view_of(error)));
           })
      .def("ask_to_cancel",
           [](PyCore& self, const py::bytes& object, bool force, bool recursive) {
             return self.core->ask_to_cancel(id_from<ObjectId>(object), force, recursive);
           })
      .def("is_call", [](PyCore&, const py::bytes& task) { return is_call(id_from<TaskId>(task)); })
      .def("workers_of",
           [](PyCore& self, const py::bytes& task) {
             py::list places;
             for (const auto& [worker, lease] : self.core->workers_of(id_from<TaskId>(task))) {
               places.append(py::make_tuple(to_bytes(worker), lease));
             }
             return places;
           })
      .def("children_of", [](PyCore& self, const py::bytes& task) {
        py::list ids;
        for (const TaskId& id : self.core->children_of(id_from<TaskId>(task))) ids.append(to_bytes(id));
        return ids;
      });
}

void bind_actors(Class& type) {
  type.def("actor_connect",
           [](PyCore& self, const py::bytes& actor, std::uint64_t incarnation, const py::bytes& worker,
              const std::string& address) {
             self.core->actor_connect(id_from<ActorId>(actor), incarnation, id_from<WorkerId>(worker),
                                      address);
           })
      .def("actor_pause",
           [](PyCore& self, const py::bytes& actor) { self.core->actor_pause(id_from<ActorId>(actor)); })
      .def(
          "actor_fail",
          [](PyCore& self, const py::bytes& actor, const py::bytes& error, const std::string& text) {
            return self.core->actor_fail(id_from<ActorId>(actor), view_of(error), text);
          },
          py::arg("actor_id"), py::arg("error"), py::arg("text") = "")
      .def("actor_set",
           [](PyCore& self, const py::bytes& actor, bool out_of_order) {
             self.core->actor_set(id_from<ActorId>(actor), out_of_order);
           })
      .def("actor_pending_calls", [](PyCore& self, const py::bytes& actor) {
        return self.core->actor_pending_calls(id_from<ActorId>(actor));
      });
}

void bind_executing(Class& type) {
  type.def("next_task", &next_task, py::arg("group"), py::arg("timeout_s"))
      .def("begin", &begin)
      .def("take_tasks",
           [](PyCore& self, std::size_t limit) {
             py::list tasks;
             for (auto& task : self.core->take_tasks(limit)) tasks.append(PyTask{self.core, std::move(task)});
             return tasks;
           })
      .def("task_fd", [](PyCore& self) { return self.core->task_fd(); })
      .def("poll",
           [](PyCore& self) {
             const py::gil_scoped_release release;
             self.core->poll_tasks();
           })
      .def(
          "finish",
          [](PyCore&, const PyTask& task, const py::tuple& values, bool wait) {
            return finish_task(task, values, wait);
          },
          py::arg("task"), py::arg("values"), py::arg("wait") = true)
      .def("fail", &fail, py::arg("task"), py::arg("error"), py::arg("cancelled") = false,
           py::arg("text") = "", py::arg("references") = py::tuple())
      .def("load_creation",
           [](PyCore& self, const py::bytes& payload) {
             return PyTask{self.core, self.core->load_creation(view_of(payload))};
           })
      .def("set_groups",
           [](PyCore& self, const std::vector<std::string>& groups) { self.core->set_groups(groups); })
      .def("set_accepting", [](PyCore& self, bool accepting) { self.core->set_accepting(accepting); })
      .def("set_actor",
           [](PyCore& self, const py::bytes& actor) { self.core->set_actor(id_from<ActorId>(actor)); })
      .def("drain_executor", [](PyCore& self) { return self.core->drain_executor(); })
      .def(
          "remind",
          [](PyCore& self, const py::bytes& task, std::int64_t delay_ms) {
            return self.core->remind(id_from<TaskId>(task), std::chrono::milliseconds(delay_ms));
          },
          py::arg("task_id"), py::arg("delay_ms"))
      .def(
          "remind_of_called_off",
          [](PyCore& self, const py::bytes& task, std::int64_t delay_ms) {
            self.core->remind_of_called_off(id_from<TaskId>(task), std::chrono::milliseconds(delay_ms));
          },
          py::arg("task_id"), py::arg("delay_ms"))
      .def(
          "take_leave",
          [](PyCore& self, double timeout_s) {
            const auto deadline = deadline_after(timeout_s);
            const py::gil_scoped_release release;
            return self.core->take_leave(deadline);
          },
          py::arg("timeout_s"))
      .def("record_span",
           [](PyCore& self, const std::string& name, std::int64_t start, std::int64_t end,
              const std::string& extra_data) {
             const core::TaskHandle task = running_task();
             self.core->record_span(task ? task->message.id : TaskId{}, name, extra_data, start, end);
           })
      .def("flush_events", [](PyCore& self) { self.core->flush_task_events(); });
}

}  // namespace

std::shared_ptr<Core> current_core() { return running(); }
void set_current_core(std::shared_ptr<Core> core) { running() = std::move(core); }
std::shared_ptr<Core> require_core() {
  if (!running()) {
    throw std::runtime_error(
        "an ObjectRef can only be loaded or sent while Aktis is initialized: call aktis.init() first");
  }
  return running();
}

void bind_core(py::module_& module) {
  pthread_atfork(nullptr, nullptr, [] { known_process_id.store(0, std::memory_order_relaxed); });
  module.attr("CANCEL_UNKNOWN") = static_cast<int>(Core::Cancelled::kUnknown);
  module.attr("CANCEL_DONE") = static_cast<int>(Core::Cancelled::kDone);
  module.attr("CANCEL_SENT") = static_cast<int>(Core::Cancelled::kSent);
  Class type(module, "Core");
  bind_life(type);
  bind_objects(type);
  bind_submitting(type);
  bind_actors(type);
  bind_executing(type);
  module.def("collect_references", [](const py::object& function) {
    Collector collecting;
    py::object result = function();
    py::list refs;
    for (const RefId& ref : collecting.refs) {  // where there are some, there is a core
      const auto core = require_core();
      core->add_local(ref.id);
      refs.append(py::reinterpret_steal<py::object>(make_object_ref(core, ref.id)));
    }
    return py::make_tuple(result, refs);
  });
}

}  // namespace aktis::bindings
