#include "bindings/log.h"

#include <pybind11/stl.h>

#include <memory>

#include "wire/log_queue.h"

namespace py = pybind11;

namespace aktis {
namespace {

const char* name(wire::LogLevel level) {
  switch (level) {
    case wire::LogLevel::kDebug:
      return "debug";
    case wire::LogLevel::kInfo:
      return "info";
    case wire::LogLevel::kWarning:
      return "warning";
    case wire::LogLevel::kError:
      break;
  }
  return "error";
}

// Takes the process's sink for as long as it lives.
class NativeLog {
 public:
  explicit NativeLog(std::size_t max_lines) : queue_(std::make_shared<wire::LogQueue>(max_lines)) {
    wire::set_log_sink([queue = queue_](wire::LogLevel level, std::string_view component,
                                        std::string_view message) { queue->put(level, component, message); });
  }
  ~NativeLog() { close(); }

  int fileno() const { return queue_->fd(); }
  py::list drain() {
    py::list lines;
    for (const auto& line : queue_->drain()) {
      lines.append(py::make_tuple(name(line.level), line.component, line.message));
    }
    return lines;
  }
  void close() {
    if (!open_) return;
    open_ = false;
    wire::set_log_sink({});
  }

 private:
  std::shared_ptr<wire::LogQueue> queue_;
  bool open_ = true;
};

}  // namespace

void bind_log(py::module_& module) {
  py::class_<NativeLog>(module, "NativeLog")
      .def(py::init<std::size_t>(), py::kw_only(), py::arg("max_lines") = 1000)
      .def("fileno", &NativeLog::fileno)
      .def("drain", &NativeLog::drain)
      .def("close", &NativeLog::close);
}

}  // namespace aktis
