// Python's view of templates and of tasks to execute.
#pragma once

#include "bindings/python_core.h"

namespace aktis::bindings {

struct PyTaskTemplate {
  std::shared_ptr<core::TaskTemplate> shape;
};

struct PyTask {
  std::shared_ptr<Core> core;
  core::TaskHandle task;
};

// The submission of one call: its arguments serialized, references among them collected. Large arguments are
// stored as objects of their own; `held` keeps those until the submission has counted them.
struct PreparedCall {
  Core::Submission submission;
  std::vector<py::object> held;
};
void prepare_call(const std::shared_ptr<Core>& core, const PyTaskTemplate& shape, const py::tuple& args,
                  const py::object& kwargs, PreparedCall& out);

// The task that the calling code is part of, null in a driver and outside of tasks. It is kept in a context
// variable of Python, so that coroutines that interleave on one thread each have their own, and what copies
// a context (asyncio.to_thread, tasks of an event loop) takes it along. It stays when the task ends, for the
// stragglers that such copies are: the executor's own context only ever goes on with the next task.
core::TaskHandle running_task();
void set_running_task(py::handle task);

// Makes the submission a child of `parent`, or of nothing: then it begins a new trace.
void set_parent(Core::Submission& submission, const core::TaskHandle& parent);

// Stores a value; raises the hook's exception when the store has no room, ConnectionError when it is gone.
// `what` it is goes in front of the reason.
py::object put_value(const std::shared_ptr<Core>& core, py::handle value, const std::string& what = {});

}  // namespace aktis::bindings
