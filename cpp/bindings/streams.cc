// Streaming generators between Python and the core: the consumer's handle, and sending items.
#include "bindings/results.h"

namespace aktis::bindings {
namespace {

// The consumer's end of one stream; its destructor lets go of what has not been taken.
class StreamReader {
 public:
  StreamReader(std::shared_ptr<Core> core, const TaskId& task) : core_(std::move(core)), task_(task) {}
  ~StreamReader() { core_->stream_drop(task_); }
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;

  // The next item's reference; None at the end, False when it has not come in time.
  py::object next(double timeout_s) {
    check_open();
    const auto id = core_->stream_next(task_);
    if (!id) return py::none();
    if (!wait_existing(*core_, *id, deadline_after(timeout_s))) return py::bool_(false);
    const auto taken = core_->stream_take(task_);
    if (!taken) return py::none();
    return py::reinterpret_steal<py::object>(make_object_ref(core_, *taken));
  }

  // A reference to the next item, which need not have come and is not taken; None at the end.
  py::object peek() {
    check_open();
    const auto id = core_->stream_next(task_);
    if (!id) return py::none();
    core_->add_local(*id);
    return py::reinterpret_steal<py::object>(make_object_ref(core_, *id));
  }

  bool ended() { return core_->stream_ended(task_); }

 private:
  void check_open() const {
    if (core_->closed())
      raise(hooks().session_ended("the session of this generator has ended, and its task"));
  }

  const std::shared_ptr<Core> core_;
  const TaskId task_;
};

// True: the executor may go on; False: it has to wait (stream_room).
py::object send_item(const PyTask& self, const py::object& value, bool wait) {
  const auto send = [](Core& core, const core::TaskHandle& task, std::vector<core::ResultParts> item) {
    core.send_item(task, std::move(item[0]));
    wire::Waiter waiter;
    const bool room = core.attach_stream_room(task, waiter);
    if (!room) core.detach_stream_room(task);
    return room;
  };
  const std::uint32_t index = self.task->streamed + 1;
  return store_and_send(std::make_unique<Unfinished>(self, py::make_tuple(value), index, send), wait);
}

void stream_room(PyTask& self) {
  wire::Waiter waiter;
  if (self.core->attach_stream_room(self.task, waiter)) return;
  struct Detach {
    PyTask& self;
    ~Detach() { self.core->detach_stream_room(self.task); }
  } const detach{self};
  wait_with_signals(*self.core, waiter, wire::TimePoint::max(), self.task);
}

}  // namespace

void bind_streams(py::module_& module) {
  py::class_<StreamReader>(module, "StreamReader")
      .def("next", &StreamReader::next, py::arg("timeout_s"))
      .def("peek", &StreamReader::peek)
      .def("ended", &StreamReader::ended);
  module.def("open_stream", [](const py::object& ref) {
    if (!is_object_ref(ref.ptr())) throw py::type_error("an ObjectRef is needed");
    auto core = require_core();
    const TaskId task = id_in(*core, ref.ptr()).task();
    return std::make_unique<StreamReader>(std::move(core), task);
  });
  module.def("send_item", &send_item, py::arg("task"), py::arg("value"), py::arg("wait") = true);
  module.def("stream_room", &stream_room, py::arg("task"));
}

}  // namespace aktis::bindings
