// Shared by the bindings of the core: Python's objects for references and buffers, and the way from Python
// values to parts and back. Everything here needs the GIL unless it says otherwise.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "core/core.h"

namespace aktis::bindings {

namespace py = pybind11;
using core::Bytes;
using core::Core;
using core::Parts;
using core::RefId;

// ---- the running core ----

// The core that references loaded from pickles belong to; null before init() and after shutdown().
std::shared_ptr<Core> current_core();
void set_current_core(std::shared_ptr<Core> core);
std::shared_ptr<Core> require_core();  // raises RuntimeError when there is none

// ---- ObjectRef (object_ref.cc) ----

void bind_object_ref(py::module_& module);
bool is_object_ref(PyObject* object);
// A new Python reference that takes over one local handle that the core has counted already.
PyObject* make_object_ref(std::shared_ptr<Core> core, const ObjectId& id);
// The id of a reference that is about to be used in the session of `core`; raises when it belongs to a
// session that has ended, or to none.
const ObjectId& id_in(const Core& core, PyObject* ref);
// Ids of a sequence of ObjectRefs; TypeError that names what else was in it; as id_in().
std::vector<ObjectId> ids_of(const Core& core, const py::sequence& refs);

// ---- values (serialize.cc) ----

// Python callables that the core uses, set once by Core.set_hooks().
struct Hooks {
  py::object serialize;        // value -> (in-band, buffers)
  py::object load_error;       // in-band -> the exception to raise
  py::object store_full;       // text -> the exception to raise
  py::object fetch_timed_out;  // object, owner, node as hexadecimal text -> the exception to raise
  py::object session_ended;    // text -> the exception to raise
  py::object cannot_load;      // exception, in-band, object as text -> the exception to raise instead
  py::object about_to_block;   // what the calling thread is going to wait for, as text
  py::object large_argument;   // function, argument, value, bytes: it is stored by itself; may be None
};
Hooks& hooks();

// References pickled while it lives are collected instead of being taken for leaked. Nests.
class Collector {
 public:
  Collector();
  ~Collector();
  static Collector* active();
  std::vector<RefId> refs;

 private:
  Collector* outer_;
};

// References unpickled while it lives are under this cover.
class CoverScope {
 public:
  explicit CoverScope(Cover cover);
  ~CoverScope();
  static Cover active();

 private:
  Cover outer_;
};

// A serialized value whose parts stay alive as long as this does.
struct Serialized {
  Parts parts;
  py::object inband;
  std::vector<Py_buffer> buffers;
  Serialized() = default;
  Serialized(Serialized&&) = default;
  ~Serialized();
};

// `result`: whole values may use the raw-bytes kind; arguments may not.
void serialize(py::handle value, bool result, Serialized& out);

// The Python value of a serialized one. `id` pins a value in shared memory while buffers of it live. An error
// value is raised.
py::object deserialize(const std::shared_ptr<Core>& core, const ObjectId& id, const core::Readable& value,
                       const Cover& cover);

[[noreturn]] void raise(const py::object& error);

// Runs a step that stores values; what the core throws becomes Python's exception. `what` is stored goes in
// front of the reason.
template <typename Step>
auto storing(const std::string& what, Step step) {
  try {
    return step();
  } catch (const core::StoreFullError& full) {
    raise(hooks().store_full(what + full.what()));
  } catch (const core::CoreError& gone) {
    PyErr_SetString(PyExc_ConnectionError, gone.what());
    throw py::error_already_set();
  }
}

// ---- waiting ----

wire::TimePoint deadline_after(double timeout_s);  // negative: no limit

// The task in whose name the caller waits for objects: that of its context, else the one that this worker
// executes, which has probably started the calling thread and waits for it.
core::TaskHandle waiting_task(Core& core);

// Waits without the GIL in slices, so that the main thread runs Python's signal handlers. False on time-out.
bool wait_with_signals(Core& core, wire::Waiter& waiter, wire::TimePoint deadline, core::TaskHandle task);

// Waits until the object exists, here or elsewhere; false on time-out.
bool wait_existing(Core& core, const ObjectId& id, wire::TimePoint deadline);

// How a thread that has let go of the GIL waits for the store: a moment for its answer, then as above.
core::WaitFor store_wait(Core& core);

// Waits until all of `ids` can be read; false on time-out.
bool wait_readable(Core& core, const std::vector<ObjectId>& ids, wire::TimePoint deadline);

// (the first `num_returns` that are ready, the others), both in the order of `refs`; None when `refs` are not
// distinct ObjectRefs. `fetch`: ready is what can be read here, not only what exists.
py::object wait_ready(Core& core, const py::object& refs, std::size_t num_returns, double timeout_s,
                      bool fetch);

inline Bytes view_of(const py::bytes& bytes) {
  return {reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(bytes.ptr())),
          static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}
template <typename Id>
Id id_from(const py::bytes& bytes) {
  if (static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr())) != Id::kBytes) {
    throw py::value_error("an id of " + std::to_string(Id::kBytes) + " bytes is needed, got " +
                          std::to_string(PyBytes_GET_SIZE(bytes.ptr())));
  }
  return Id::from_bytes(PyBytes_AS_STRING(bytes.ptr()));
}
template <typename Id>
py::bytes to_bytes(const Id& id) {
  return py::bytes(reinterpret_cast<const char*>(id.data), Id::kBytes);
}

// ---- registration ----
void bind_tasks(py::module_& module);
void bind_results(py::module_& module);
void bind_core(py::module_& module);
void bind_streams(py::module_& module);
py::list to_python(const std::vector<core::Event>& events);
void bind_events(py::module_& module);

}  // namespace aktis::bindings
