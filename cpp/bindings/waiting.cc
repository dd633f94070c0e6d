// How a thread of Python's waits for the core.
#include <pybind11/eval.h>

#include "bindings/tasks.h"

namespace aktis::bindings {
namespace {

constexpr std::chrono::milliseconds kSignalSlice{100};

// What Python has for this thread: handlers of signals in the main thread, in others an exception that a
// thread has set for them (which is how a call of a threaded actor is cancelled). The former can be asked
// for, the latter the interpreter looks at when it enters a function, whatever the function does.
void check_interrupts() {
  static PyObject* const nothing = py::eval("lambda: None", py::dict()).release().ptr();
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  PyObject* none = PyObject_CallNoArgs(nothing);
  if (none == nullptr) throw py::error_already_set();
  Py_DECREF(none);
}

bool wait_for_all(Core& core, std::span<const ObjectId> ids, bool values, wire::TimePoint deadline) {
  core::WaitGroup group;
  core.attach(group, ids, ids.size(), values);
  if (group.waiter.completed()) return true;
  struct Detach {
    Core& core;
    core::WaitGroup& group;
    std::span<const ObjectId> ids;
    ~Detach() { core.detach(group, ids); }
  } const detach{core, group, ids};
  return wait_with_signals(core, group.waiter, deadline, waiting_task(core));
}

}  // namespace

wire::TimePoint deadline_after(double timeout_s) {
  if (timeout_s < 0 || timeout_s > 1e9) return wire::TimePoint::max();
  return wire::Clock::now() +
         std::chrono::duration_cast<wire::Clock::duration>(std::chrono::duration<double>(timeout_s));
}

core::TaskHandle waiting_task(Core& core) {
  core::TaskHandle task = running_task();
  return task ? task : core.only_task();
}

bool wait_with_signals(Core& core, wire::Waiter& waiter, wire::TimePoint deadline, core::TaskHandle task) {
  if (waiter.completed()) return true;
  Core::BlockScope scope(core, std::move(task));
  for (;;) {
    const auto now = wire::Clock::now();
    bool done;
    {
      const py::gil_scoped_release release;
      // A signal interrupts a poll but not a sleep on a condition variable: hence slices.
      done = core.wait(waiter, deadline - now > kSignalSlice ? now + kSignalSlice : deadline, scope);
    }
    if (done) return true;
    check_interrupts();
    if (core.closed()) throw std::runtime_error("Aktis was shut down while this thread was waiting");
    if (wire::Clock::now() >= deadline) return false;
  }
}

core::WaitFor store_wait(Core& core) {
  return [&core](wire::Waiter& waiter, wire::TimePoint deadline) {
    if (core.wait_briefly(waiter, deadline)) return true;
    const py::gil_scoped_acquire acquire;
    hooks().about_to_block("for room in the object store");
    return wait_with_signals(core, waiter, deadline, waiting_task(core));
  };
}

bool wait_existing(Core& core, const ObjectId& id, wire::TimePoint deadline) {
  return wait_for_all(core, {&id, 1}, false, deadline);
}

bool wait_readable(Core& core, const std::vector<ObjectId>& ids, wire::TimePoint deadline) {
  return wait_for_all(core, ids, true, deadline);
}

}  // namespace aktis::bindings
