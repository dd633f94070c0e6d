// Tasks between Python and the core: preparing calls, loading arguments.
#include "bindings/tasks.h"

#include <algorithm>
#include <random>

namespace aktis::bindings {
namespace {

PyObject* running_variable = nullptr;  // a contextvars.ContextVar, made by bind_tasks
PyObject* trace_source = nullptr;  // called with a task's name for its trace context; null: tracing is off

// The span below that of `parent`, or the first one of a new trace.
core::TraceContext next_trace(const core::IncomingTask* parent) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  core::TraceContext trace;
  const std::uint64_t words[3] = {random(), random(), random()};
  if (parent != nullptr) {
    trace = parent->message.trace;
  } else {
    std::memcpy(trace.data, words, 16);
  }
  std::memcpy(trace.data + 16, &words[2], 8);
  return trace;
}

// The context of a span that tracing records for the submission; false when it has none.
bool traced_submission(const std::string& name, core::TraceContext& trace) {
  if (trace_source == nullptr) return false;
  const auto source = py::reinterpret_borrow<py::object>(trace_source);  // the call may replace it
  const std::string carried = py::cast<py::bytes>(source(name));
  if (carried.size() != sizeof(trace.data)) return false;
  std::memcpy(trace.data, carried.data(), sizeof(trace.data));
  return true;
}

core::Argument argument_for(const std::shared_ptr<Core>& core, PyObject* ref, std::uint16_t position) {
  core::Argument argument;
  argument.position = position;
  argument.ref = core->ref_of(id_in(*core, ref));
  return argument;
}

// Replaces references by None, remembering where they go.
py::tuple take_references(const std::shared_ptr<Core>& core, const py::tuple& args, PreparedCall& out) {
  py::tuple replaced = args;
  for (std::size_t i = 0; i < args.size(); ++i) {
    PyObject* item = PyTuple_GET_ITEM(args.ptr(), static_cast<Py_ssize_t>(i));
    if (!is_object_ref(item)) continue;
    if (replaced.is(args)) {
      replaced = py::tuple(args.size());
      for (std::size_t j = 0; j < args.size(); ++j) replaced[j] = args[j];
    }
    out.submission.arguments.push_back(argument_for(core, item, static_cast<std::uint16_t>(i)));
    replaced[i] = py::none();
  }
  return replaced;
}

py::dict take_references(const std::shared_ptr<Core>& core, const py::dict& kwargs, PreparedCall& out) {
  py::dict replaced;
  for (const auto& [key, item] : kwargs) {
    if (!is_object_ref(item.ptr())) {
      replaced[key] = item;
      continue;
    }
    core::Argument argument = argument_for(core, item.ptr(), core::kKeywordPosition);
    argument.keyword = py::cast<std::string>(key);
    out.submission.arguments.push_back(std::move(argument));
  }
  return replaced;
}

// What many arguments that are small each are stored from, when together they are too large.
constexpr std::size_t kSmallBytes = 1024;

// Exchanges an argument larger than that for a reference to a stored object.
py::object store_if_large(const std::shared_ptr<Core>& core, const std::string& function,
                          std::size_t limit_bytes, const std::string& name, const py::object& item,
                          PreparedCall& out) {
  if (is_object_ref(item.ptr())) return item;
  Serialized serialized;
  serialize(item, true, serialized);
  const std::size_t size = serialized.parts.size();
  if (size <= limit_bytes) return item;
  const py::object& told = hooks().large_argument;
  if (told && !told.is_none()) told(function, name, item, size);
  py::object stored = put_value(core, item, "argument " + name + " of " + function + ": ");
  out.held.push_back(stored);
  return stored;
}

void store_large(const std::shared_ptr<Core>& core, const std::string& function, std::size_t limit_bytes,
                 py::tuple& args, py::dict& kwargs, PreparedCall& out) {
  py::tuple smaller(args.size());
  for (std::size_t i = 0; i < args.size(); ++i) {
    smaller[i] = store_if_large(core, function, limit_bytes, std::to_string(i), args[i], out);
  }
  py::dict smaller_kwargs;
  for (const auto& [key, item] : kwargs) {
    const py::object value = py::reinterpret_borrow<py::object>(item);
    smaller_kwargs[key] = store_if_large(core, function, limit_bytes, py::cast<std::string>(key), value, out);
  }
  args = smaller;
  kwargs = smaller_kwargs;
}

void serialize_arguments(const std::shared_ptr<Core>& core, const py::tuple& args, const py::dict& kwargs,
                         PreparedCall& out, Serialized& serialized) {
  out.submission.arguments.clear();
  const py::tuple positional = take_references(core, args, out);
  if (kwargs.empty()) {
    serialize(positional, false, serialized);
  } else {
    py::list both;
    both.append(positional);
    both.append(take_references(core, kwargs, out));
    serialize(both, false, serialized);
  }
}

const std::vector<std::byte>& empty_arguments() {
  static const std::vector<std::byte> pickled = [] {
    Serialized serialized;
    serialize(py::tuple(), false, serialized);
    return std::vector<std::byte>(serialized.parts.inband.begin(), serialized.parts.inband.end());
  }();
  return pickled;
}

// ---- loading ----

// Takes over a reference to an argument that is not inline: one local handle, covered by the task.
void adopt(const PyTask& self, const core::ArgumentMessage& argument) {
  self.core->adopt_reference(argument.ref, Cover::by_task(self.task->message.id, self.task->owner));
  if (argument.place == core::ArgumentPlace::kPlasma) {
    self.core->note_in_plasma(argument.ref.id, argument.copy);
  }
}

// References to the arguments that are not inline, for as long as this lives.
class AdoptedArguments {
 public:
  explicit AdoptedArguments(const PyTask& task) : task_(task) {
    for (const core::ArgumentMessage& argument : task.task->message.arguments) {
      if (argument.place == core::ArgumentPlace::kInline) continue;
      ids_.push_back(argument.ref.id);
      adopt(task, argument);
    }
  }
  ~AdoptedArguments() {
    for (const ObjectId& id : ids_) task_.core->drop_reference(id);
  }
  AdoptedArguments(const AdoptedArguments&) = delete;
  AdoptedArguments& operator=(const AdoptedArguments&) = delete;

  // What has been lost and is computed again takes as long as that does: the time counts once it exists.
  void fetch(bool wait) const {
    const auto limit = task_.core->limits().fetch_timeout;
    const double timeout_s = wait ? std::chrono::duration<double>(limit).count() : 0;
    bool awaited = !ids_.empty();
    while (awaited) {
      if (wait_readable(*task_.core, ids_, deadline_after(timeout_s))) return;
      awaited = std::any_of(ids_.begin(), ids_.end(), [&](auto& id) { return task_.core->awaits_owner(id); });
    }
    for (const core::ArgumentMessage& argument : task_.task->message.arguments) {
      if (argument.place == core::ArgumentPlace::kInline) continue;
      if (task_.core->readable(argument.ref.id)) continue;
      const RefId& ref = argument.ref;
      raise(hooks().fetch_timed_out(ref.id.hex(), ref.owner.hex(), ref.node.hex()));
    }
  }

 private:
  const PyTask& task_;
  std::vector<ObjectId> ids_;
};

py::list argument_refs(PyTask& self) {
  py::list refs;
  for (const core::ArgumentMessage& argument : self.task->message.arguments) {
    if (argument.place == core::ArgumentPlace::kInline) continue;
    adopt(self, argument);
    refs.append(py::reinterpret_steal<py::object>(make_object_ref(self.core, argument.ref.id)));
  }
  return refs;
}

py::object load_argument(PyTask& self, const core::ArgumentMessage& argument) {
  const Cover by_task = Cover::by_task(self.task->message.id, self.task->owner);
  if (argument.place == core::ArgumentPlace::kInline) {
    const auto value = core::OwnedValue::copy_of(argument.value);
    return deserialize(self.core, argument.ref.id, {value, value->view(), false}, by_task);
  }
  const auto value = self.core->read(argument.ref.id);
  if (!value) throw py::value_error("argument " + argument.ref.id.hex() + " cannot be read");
  return deserialize(self.core, argument.ref.id, *value, by_task);
}

void place_arguments(PyTask& self, bool wait, py::tuple& args, py::dict& kwargs) {
  if (self.task->message.arguments.empty()) return;
  const AdoptedArguments adopted(self);
  adopted.fetch(wait);
  py::list places(args);
  for (const core::ArgumentMessage& argument : self.task->message.arguments) {
    py::object value = load_argument(self, argument);
    if (argument.position == core::kKeywordPosition) {
      kwargs[py::str(argument.keyword.data(), argument.keyword.size())] = value;
    } else if (argument.position < places.size()) {
      places[argument.position] = value;
    }
  }
  args = py::tuple(places);
}

py::tuple load_args(PyTask& self, bool wait) {
  const core::TaskMessage& message = self.task->message;
  const auto view = core::parse_value(message.args);
  if (!view) throw py::value_error("the arguments of task " + std::string(message.name) + " do not decode");
  const auto& empty = empty_arguments();
  py::tuple args;
  py::dict kwargs;
  if (view->inband.size() != empty.size() ||
      std::memcmp(view->inband.data(), empty.data(), empty.size()) != 0) {
    // Buffers of the arguments view memory that must live as long as they do.
    auto value = view->buffers.empty() ? nullptr : core::OwnedValue::copy_of(message.args);
    const core::Readable readable{value, value ? value->view() : message.args, false};
    py::object loaded =
        deserialize(self.core, ObjectId{}, readable, Cover::by_task(message.id, self.task->owner));
    if (PyTuple_CheckExact(loaded.ptr())) {
      args = py::reinterpret_steal<py::tuple>(loaded.release());
    } else {
      args = loaded[py::int_(0)];
      kwargs = loaded[py::int_(1)];
    }
  }
  place_arguments(self, wait, args, kwargs);
  return py::make_tuple(args, kwargs);
}

py::str text(std::string_view value) { return py::str(value.data(), value.size()); }

PyTaskTemplate make_template(std::uint64_t class_key, const py::bytes& function_id, std::string name,
                             std::string method, std::uint16_t num_returns, std::int32_t max_retries,
                             int flags, std::string group, bool creation, std::uint32_t stream_limit,
                             std::uint64_t retry_key, std::uint32_t max_calls, std::uint32_t timeout_ms,
                             std::int32_t priority, const py::bytes& placement, double speculative) {
  auto shape = std::make_shared<core::TaskTemplate>();
  shape->class_key = class_key;
  shape->kind = creation         ? core::TaskKind::kActorCreation
                : method.empty() ? core::TaskKind::kNormal
                                 : core::TaskKind::kActorMethod;
  shape->function = id_from<FunctionId>(function_id);
  shape->name = std::move(name);
  shape->method = std::move(method);
  shape->concurrency_group = std::move(group);
  shape->num_returns = num_returns;
  shape->max_retries = max_retries;
  shape->retry_on_error = (flags & 1) != 0;
  shape->streaming = (flags & 2) != 0;
  shape->dynamic = (flags & 4) != 0;
  shape->stream_limit = stream_limit;
  shape->retry_key = retry_key;
  shape->max_calls = max_calls;
  shape->timeout_ms = timeout_ms;
  shape->priority = priority;
  shape->speculative = speculative;
  shape->placement = std::string(placement);
  shape->finish();
  return PyTaskTemplate{std::move(shape)};
}

}  // namespace

py::object put_value(const std::shared_ptr<Core>& core, py::handle value, const std::string& what) {
  Serialized serialized;
  serialize(value, true, serialized);
  const ObjectId id = core->next_put_id();
  storing(what, [&] {
    if (serialized.parts.size() <= core->limits().inline_bytes) {
      core->put(id, serialized.parts, nullptr);
    } else {
      const py::gil_scoped_release release;
      core->put(id, serialized.parts, store_wait(*core));
    }
  });
  return py::reinterpret_steal<py::object>(make_object_ref(core, id));
}

void prepare_call(const std::shared_ptr<Core>& core, const PyTaskTemplate& shape, const py::tuple& args,
                  const py::object& kwargs, PreparedCall& out) {
  py::tuple positional = args;
  py::dict named = kwargs.is_none() ? py::dict() : py::reinterpret_borrow<py::dict>(kwargs);
  Serialized serialized;
  serialize_arguments(core, positional, named, out, serialized);
  if (serialized.parts.size() > core->limits().inline_bytes) {
    const core::CoreLimits& limits = core->limits();
    store_large(core, shape.shape->name, limits.inline_bytes, positional, named, out);
    auto again = std::make_unique<Serialized>();
    serialize_arguments(core, positional, named, out, *again);
    if (again->parts.size() > limits.inline_arguments_bytes && limits.inline_bytes > kSmallBytes) {
      store_large(core, shape.shape->name, kSmallBytes, positional, named, out);
      again = std::make_unique<Serialized>();
      serialize_arguments(core, positional, named, out, *again);
    }
    if (again->parts.size() > limits.inline_arguments_bytes) {
      throw py::value_error("the arguments of " + shape.shape->name + " take " +
                            std::to_string(again->parts.size()) +
                            " bytes although each is small; pass fewer of them or put() them together first");
    }
    out.submission.args =
        core::OwnedValue::make(again->parts.kind, again->parts.inband, again->parts.buffers);
    serialized.parts.nested = std::move(again->parts.nested);
  } else {
    out.submission.args =
        core::OwnedValue::make(serialized.parts.kind, serialized.parts.inband, serialized.parts.buffers);
  }
  for (const RefId& ref : serialized.parts.nested) out.submission.nested.push_back(ref.id);
  out.submission.shape = shape.shape;
}

void set_parent(Core::Submission& submission, const core::TaskHandle& parent) {
  if (parent) submission.parent = parent->message.id;
  if (!traced_submission(submission.shape->name, submission.trace))
    submission.trace = next_trace(parent.get());
}

core::TaskHandle running_task() {
  PyObject* value = nullptr;
  if (PyContextVar_Get(running_variable, nullptr, &value) != 0) throw py::error_already_set();
  const auto task = py::reinterpret_steal<py::object>(value);
  return task.is_none() ? nullptr : py::cast<PyTask&>(task).task;
}

void set_running_task(py::handle task) {
  PyObject* token = PyContextVar_Set(running_variable, task.ptr());
  if (token == nullptr) throw py::error_already_set();
  Py_DECREF(token);
}

void bind_tasks(py::module_& module) {
  running_variable = PyContextVar_New("aktis_running_task", Py_None);
  if (running_variable == nullptr) throw py::error_already_set();
  module.attr("running_task") = py::reinterpret_borrow<py::object>(running_variable);
  module.def(
      "set_trace_source",
      [](const py::object& source) {
        PyObject* old = trace_source;
        trace_source = source.is_none() ? nullptr : source.inc_ref().ptr();
        Py_XDECREF(old);
      },
      py::arg("source").none(true));
  module.attr("TASK_RETRY_ON_ERROR") = 1;
  module.attr("TASK_STREAMING") = 2;
  module.attr("TASK_DYNAMIC") = 4;
  module.attr("TASK_KIND_NORMAL") = static_cast<int>(core::TaskKind::kNormal);
  module.attr("TASK_KIND_ACTOR_CREATION") = static_cast<int>(core::TaskKind::kActorCreation);
  module.attr("TASK_KIND_ACTOR_METHOD") = static_cast<int>(core::TaskKind::kActorMethod);

  py::class_<PyTaskTemplate>(module, "TaskTemplate")
      .def(py::init(&make_template), py::kw_only(), py::arg("class_key"), py::arg("function_id"),
           py::arg("name"), py::arg("method") = "", py::arg("num_returns") = 1, py::arg("max_retries") = 3,
           py::arg("flags") = 0, py::arg("concurrency_group") = "", py::arg("creation") = false,
           py::arg("stream_limit") = 0, py::arg("retry_key") = 0, py::arg("max_calls") = 0,
           py::arg("timeout_ms") = 0, py::arg("priority") = 0, py::arg("placement") = py::bytes(),
           py::arg("speculative") = 0.0)
      .def_property_readonly("name", [](const PyTaskTemplate& self) { return self.shape->name; });

  py::class_<PyTask>(module, "Task")
      .def_property_readonly("task_id", [](const PyTask& self) { return to_bytes(self.task->message.id); })
      .def_property_readonly("parent_task_id",
                             [](const PyTask& self) { return to_bytes(self.task->message.parent); })
      .def_property_readonly("kind",
                             [](const PyTask& self) { return static_cast<int>(self.task->message.kind); })
      .def_property_readonly("function_id",
                             [](const PyTask& self) { return to_bytes(self.task->message.function); })
      .def_property_readonly("actor_id",
                             [](const PyTask& self) { return to_bytes(self.task->message.actor); })
      .def_property_readonly("job_id", [](const PyTask& self) { return to_bytes(self.task->message.job); })
      .def_property_readonly("owner_worker_id", [](const PyTask& self) { return to_bytes(self.task->owner); })
      .def_property_readonly("name", [](const PyTask& self) { return text(self.task->message.name); })
      .def_property_readonly("method", [](const PyTask& self) { return text(self.task->message.method); })
      .def_property_readonly("concurrency_group",
                             [](const PyTask& self) { return text(self.task->message.concurrency_group); })
      .def_property_readonly("placement",
                             [](const PyTask& self) {
                               const std::string_view placement = self.task->message.placement;
                               return py::bytes(placement.data(), placement.size());
                             })
      .def_property_readonly("num_returns", [](const PyTask& self) { return self.task->message.num_returns; })
      .def_property_readonly(
          "is_generator",
          [](const PyTask& self) {
            return (self.task->message.flags & (core::kTaskStreaming | core::kTaskDynamic)) != 0;
          })
      .def_property_readonly(
          "dynamic", [](const PyTask& self) { return (self.task->message.flags & core::kTaskDynamic) != 0; })
      .def_property_readonly("attempt", [](const PyTask& self) { return self.task->message.attempt; })
      .def_property_readonly("trace",
                             [](const PyTask& self) {
                               return py::bytes(reinterpret_cast<const char*>(self.task->message.trace.data),
                                                sizeof(self.task->message.trace.data));
                             })
      .def_property_readonly("start_unix_ns", [](const PyTask& self) { return self.task->start_unix_ns; })
      .def_property_readonly("cancelled", [](const PyTask& self) { return self.task->cancelled.load(); })
      .def("load_args", &load_args, py::arg("wait") = true)
      .def("argument_refs", &argument_refs);
}

}  // namespace aktis::bindings
