#include "bindings/testing.h"

#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bindings/python_core.h"
#include "core/references.h"

namespace aktis {

namespace {

namespace py = pybind11;

template <typename T>
T id_from(const py::bytes& raw) {
  const std::string_view view = raw;
  if (view.size() != T::kBytes) {
    throw py::value_error("an id of " + std::to_string(T::kBytes) + " bytes was expected, not of " +
                          std::to_string(view.size()));
  }
  return T::from_bytes(view.data());
}

ObjectId object_id(const py::bytes& raw) { return id_from<ObjectId>(raw); }
WorkerId worker_id(const py::bytes& raw) { return id_from<WorkerId>(raw); }
TaskId task_id(const py::bytes& raw) { return id_from<TaskId>(raw); }

std::vector<ObjectId> object_ids(const std::vector<py::bytes>& raw) {
  std::vector<ObjectId> ids;
  for (const py::bytes& id : raw) ids.push_back(object_id(id));
  return ids;
}

const char* kind_name(ReferenceAction::Kind kind) {
  switch (kind) {
    case ReferenceAction::Kind::kSendBorrowAdd:
      return "borrow_add";
    case ReferenceAction::Kind::kSendBorrowAck:
      return "borrow_ack";
    case ReferenceAction::Kind::kSendBorrowNack:
      return "borrow_nack";
    case ReferenceAction::Kind::kSendBorrowRemove:
      return "borrow_remove";
    case ReferenceAction::Kind::kSendReturnRelease:
      return "return_release";
    case ReferenceAction::Kind::kFreeObject:
      return "free_object";
    case ReferenceAction::Kind::kLineageDroppable:
      return "lineage_droppable";
    case ReferenceAction::Kind::kReleaseBorrowed:
      return "release_borrowed";
    case ReferenceAction::Kind::kObjectOwnerDied:
      return "object_owner_died";
    case ReferenceAction::Kind::kObjectLost:
      return "object_lost";
    case ReferenceAction::Kind::kTaskEndable:
      return "task_endable";
  }
  throw std::logic_error("an action of unknown kind");
}

const char* state_name(references::State state) {
  static const char* const kNames[references::kStates] = {"owned",      "freed",      "covered", "adding",
                                                          "registered", "owner_died", "lost"};
  return kNames[static_cast<int>(state)];
}

template <typename T>
py::bytes bytes_of(const T& id) {
  return {reinterpret_cast<const char*>(id.data), T::kBytes};
}

py::list take_actions(ReferenceTable& table) {
  py::list actions;
  for (const ReferenceAction& action : table.take_actions()) {
    actions.append(py::make_tuple(kind_name(action.kind), bytes_of(action.peer), bytes_of(action.object),
                                  action.generation, bytes_of(action.task)));
  }
  return actions;
}

std::string state_of(const ReferenceTable& table, const py::bytes& id) {
  return table.contains(object_id(id)) ? state_name(table.counts(object_id(id)).state) : "unknown";
}

using ReturnedRefs = std::vector<std::tuple<py::bytes, py::bytes, py::bytes>>;

void adopt_return(ReferenceTable& table, const py::bytes& executor, std::uint64_t hold,
                  const ReturnedRefs& raw) {
  std::vector<ReturnedRef> refs;
  for (const auto& [outer, inner, owner] : raw) {
    refs.push_back({object_id(outer), object_id(inner), worker_id(owner)});
  }
  table.adopt_return(worker_id(executor), hold, refs);
}

using Table = py::class_<ReferenceTable>;
using Message = void (ReferenceTable::*)(const WorkerId&, const ObjectId&, std::uint64_t);

void bind_message(Table& table, const char* name, Message handler) {
  table.def(
      name,
      [handler](ReferenceTable& self, const py::bytes& from, const py::bytes& id, std::uint64_t generation) {
        (self.*handler)(worker_id(from), object_id(id), generation);
      },
      py::arg("sender"), py::arg("object_id"), py::arg("generation"));
}

using Count = void (ReferenceTable::*)(const ObjectId&);

void bind_count(Table& table, const char* name, Count change) {
  table.def(
      name, [change](ReferenceTable& self, const py::bytes& id) { (self.*change)(object_id(id)); },
      py::arg("object_id"));
}

void bind_program(Table& table) {
  bind_count(table, "add_local", &ReferenceTable::add_local);
  bind_count(table, "remove_local", &ReferenceTable::remove_local);
  bind_count(table, "add_task_use", &ReferenceTable::add_task_use);
  bind_count(table, "remove_task_use", &ReferenceTable::remove_task_use);
  bind_count(table, "pin_forever", &ReferenceTable::pin_forever);
  table.def("add_owned", [](ReferenceTable& self, const py::bytes& id) { self.add_owned(object_id(id)); });
  table.def("add_borrowed_by_task", [](ReferenceTable& self, const py::bytes& id, const py::bytes& owner,
                                       const py::bytes& task, const py::bytes& caller) {
    self.add_borrowed(object_id(id), worker_id(owner), Cover::by_task(task_id(task), worker_id(caller)));
  });
  table.def("add_borrowed_by_object",
            [](ReferenceTable& self, const py::bytes& id, const py::bytes& owner, const py::bytes& outer) {
              self.add_borrowed(object_id(id), worker_id(owner), Cover::by_object(object_id(outer)));
            });
  table.def("set_contained",
            [](ReferenceTable& self, const py::bytes& outer, const std::vector<py::bytes>& inners) {
              self.set_contained(object_id(outer), object_ids(inners));
            });
  table.def("end_task",
            [](ReferenceTable& self, const py::bytes& task) { return self.end_task(task_id(task)); });
  table.def("hold_return",
            [](ReferenceTable& self, const py::bytes& caller, const std::vector<py::bytes>& ids) {
              return self.hold_return(worker_id(caller), object_ids(ids));
            });
  table.def("adopt_return", &adopt_return);
}

}  // namespace

void bind_testing(py::module_& module) {
  py::module_ testing = module.def_submodule("testing", "Parts of the core for tests without sockets.");
  Table table(testing, "ReferenceTable");
  table.def(py::init([](const py::bytes& self) { return new ReferenceTable(worker_id(self)); }));
  bind_program(table);
  bind_message(table, "on_borrow_add", &ReferenceTable::on_borrow_add);
  bind_message(table, "on_borrow_ack", &ReferenceTable::on_borrow_ack);
  bind_message(table, "on_borrow_nack", &ReferenceTable::on_borrow_nack);
  bind_message(table, "on_borrow_remove", &ReferenceTable::on_borrow_remove);
  table.def("on_return_release", [](ReferenceTable& self, const py::bytes& from, std::uint64_t hold) {
    self.on_return_release(worker_id(from), hold);
  });
  table.def("on_process_lost",
            [](ReferenceTable& self, const py::bytes& worker) { self.on_process_lost(worker_id(worker)); });
  table.def("take_actions", &take_actions);
  table.def("state", &state_of);
  table.def("idle", &ReferenceTable::idle);
  table.def("validate", &ReferenceTable::validate);
  testing.def("object_lost_event", [](const py::bytes& reason) {
    return bindings::to_python({{.kind = core::EventKind::kObjectLost, .first = {}, .text = reason}});
  });
}

}  // namespace aktis
