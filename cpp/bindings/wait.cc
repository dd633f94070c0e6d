// wait(): which of many references are ready.
//
// A program that takes results as they come calls it once per result, with all the others in the list. So
// it is the cost per reference that is only passed on that counts: a look at its type and its id, a copy.
#include <bit>
#include <cstring>
#include <optional>

#include "bindings/python_core.h"

namespace aktis::bindings {
namespace {

// Whether no id is there twice: open addressing in a table that is kept from call to call.
bool all_distinct(std::span<const ObjectId> ids) {
  thread_local std::vector<std::uint32_t> table;
  const std::size_t size = std::bit_ceil(2 * ids.size());
  table.assign(size, 0);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::size_t slot = IdHash{}(ids[i]) & (size - 1);
    for (; table[slot] != 0; slot = (slot + 1) & (size - 1)) {
      if (ids[table[slot] - 1] == ids[i]) return false;
    }
    table[slot] = static_cast<std::uint32_t>(i + 1);
  }
  return true;
}

// The ids of a tuple of ObjectRefs; none when something else is among them.
std::optional<std::vector<ObjectId>> ids_of_refs(const Core& core, PyObject* refs) {
  const auto count = static_cast<std::size_t>(PyTuple_GET_SIZE(refs));
  std::vector<ObjectId> ids(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* ref = PyTuple_GET_ITEM(refs, i);
    if (!is_object_ref(ref)) return std::nullopt;
    ids[i] = id_in(core, ref);
  }
  return ids;
}

// Whether `enough` of the objects are there: now, or, with a deadline, by then.
bool wait_for_some(Core& core, std::span<const ObjectId> ids, std::size_t enough, bool fetch,
                   std::optional<wire::TimePoint> deadline) {
  core::WaitGroup group;
  core.attach(group, ids, enough, fetch);
  // All are there, so that the group is attached to none of them.
  if (enough == ids.size() && group.waiter.completed()) return true;
  struct Detach {
    Core& core;
    core::WaitGroup& group;
    std::span<const ObjectId> ids;
    ~Detach() { core.detach(group, ids); }
  } const detach{core, group, ids};
  if (group.waiter.completed() || !deadline) return group.waiter.completed();
  return wait_with_signals(core, group.waiter, *deadline, waiting_task(core));
}

// The first `num_returns` whose flag is set, and the others.
py::object split(PyObject* refs, const std::vector<bool>& flags, std::size_t num_returns) {
  const auto count = static_cast<std::size_t>(PyTuple_GET_SIZE(refs));
  std::size_t taken = 0;
  for (std::size_t i = 0; i < flags.size() && taken < num_returns; ++i) taken += flags[i] ? 1 : 0;
  py::list ready(taken);
  py::list others(count - taken);
  std::size_t next_ready = 0;
  std::size_t next_other = 0;
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* ref = PyTuple_GET_ITEM(refs, i);
    Py_INCREF(ref);
    if (next_ready < taken && flags[i]) {
      PyList_SET_ITEM(ready.ptr(), static_cast<Py_ssize_t>(next_ready++), ref);
    } else {
      PyList_SET_ITEM(others.ptr(), static_cast<Py_ssize_t>(next_other++), ref);
    }
  }
  return py::make_tuple(std::move(ready), std::move(others));
}

}  // namespace

py::object wait_ready(Core& core, const py::object& refs, std::size_t num_returns, double timeout_s,
                      bool fetch) {
  // A copy: another thread may change the list while this one waits.
  const py::tuple own(refs);
  const auto ids = ids_of_refs(core, own.ptr());
  if (!ids || !all_distinct(*ids)) return py::none();
  // Who takes results as they come finds the next one in front more often than not, and then the many
  // others need not be looked at: a loop over n references would otherwise cost n * n.
  std::span<const ObjectId> looked_at(*ids);
  if (num_returns <= ids->size() / 4) {
    looked_at = looked_at.first(2 * num_returns);
    if (!wait_for_some(core, looked_at, num_returns, fetch, std::nullopt)) looked_at = *ids;
  }
  if (looked_at.size() == ids->size()) {
    wait_for_some(core, *ids, num_returns, fetch, deadline_after(timeout_s));
  }
  return split(own.ptr(), core.ready_flags(looked_at), num_returns);
}

}  // namespace aktis::bindings
