// Events of the core as Python tuples; which fields a kind has is this table (and client/aktis/_core.pyi).
#include "bindings/foreign_text.h"
#include "bindings/python_core.h"

namespace aktis::bindings {
namespace {

using core::Event;
using core::EventKind;

py::tuple to_tuple(const Event& event) {
  const int kind = static_cast<int>(event.kind);
  const py::bytes first(event.first);
  const auto text = [&] { return foreign_text(event.text); };
  switch (event.kind) {
    case EventKind::kControl:
      return py::make_tuple(kind, first);
    case EventKind::kNeedLeases:
      return py::make_tuple(kind, event.key, event.number, event.other, event.priority);
    case EventKind::kLeaseReturned:
      return py::make_tuple(kind, event.number);
    case EventKind::kLeaseBroken:
      return py::make_tuple(kind, event.number, first, text());
    case EventKind::kTaskLost:
      return py::make_tuple(kind, first, py::bytes(event.second), py::bytes(event.third), text(),
                            event.number);
    case EventKind::kTaskError:
      return py::make_tuple(kind, first, py::bytes(event.second), event.number, event.key);
    case EventKind::kObjectReady:
      return py::make_tuple(kind, first, event.number != 0);
    case EventKind::kObjectFreed:
      return py::make_tuple(kind, first);
    case EventKind::kObjectLost:
      return py::make_tuple(kind, first, text());
    case EventKind::kActorLost:
      return py::make_tuple(kind, first, py::bytes(event.second), text());
    case EventKind::kCancel:
      return py::make_tuple(kind, first, event.number != 0);
    case EventKind::kCancelAsked:
      return py::make_tuple(kind, first, event.other != 0, event.number != 0);
    case EventKind::kTaskOverdue:
      return py::make_tuple(kind, first, text(), event.number, event.other != 0);
    case EventKind::kRunCalledOff:
      return py::make_tuple(kind, first, py::bytes(event.second), event.number, event.other != 0);
    case EventKind::kRayletLost:
    case EventKind::kPlasmaLost:
      return py::make_tuple(kind, text());
  }
  return py::make_tuple(kind);
}

}  // namespace

py::list to_python(const std::vector<Event>& events) {
  py::list list;
  for (const Event& event : events) list.append(to_tuple(event));
  return list;
}

void bind_events(py::module_& module) {
  const std::pair<const char*, EventKind> kinds[] = {
      {"EVENT_CONTROL", EventKind::kControl},
      {"EVENT_NEED_LEASES", EventKind::kNeedLeases},
      {"EVENT_LEASE_RETURNED", EventKind::kLeaseReturned},
      {"EVENT_LEASE_BROKEN", EventKind::kLeaseBroken},
      {"EVENT_TASK_LOST", EventKind::kTaskLost},
      {"EVENT_TASK_ERROR", EventKind::kTaskError},
      {"EVENT_OBJECT_READY", EventKind::kObjectReady},
      {"EVENT_OBJECT_FREED", EventKind::kObjectFreed},
      {"EVENT_OBJECT_LOST", EventKind::kObjectLost},
      {"EVENT_ACTOR_LOST", EventKind::kActorLost},
      {"EVENT_CANCEL", EventKind::kCancel},
      {"EVENT_RAYLET_LOST", EventKind::kRayletLost},
      {"EVENT_PLASMA_LOST", EventKind::kPlasmaLost},
      {"EVENT_CANCEL_ASKED", EventKind::kCancelAsked},
      {"EVENT_TASK_OVERDUE", EventKind::kTaskOverdue},
      {"EVENT_RUN_CALLED_OFF", EventKind::kRunCalledOff},
  };
  for (const auto& [name, kind] : kinds) module.attr(name) = static_cast<int>(kind);
}

}  // namespace aktis::bindings
