// Results of tasks and items of generators on their way into shared memory and to the owner.
#include "bindings/results.h"

namespace aktis::bindings {

Unfinished::Unfinished(const PyTask& task, py::tuple values, std::uint32_t first_index, Send send)
    : core_(task.core),
      task_(task.task),
      values_(std::move(values)),
      first_index_(first_index),
      send_(std::move(send)),
      results_(values_.size()) {}

Unfinished::~Unfinished() { discard(); }

bool Unfinished::store(const core::WaitFor& wait) {
  if (results_.size() < values_.size()) throw std::logic_error("storing has failed, or all is sent");
  try {
    for (; next_ < values_.size(); ++next_) {
      if (!serialized_) serialize(values_[next_], true, serialized_.emplace());
      if (!storing({}, [&] { return store_next(wait); })) return false;
      serialized_.reset();
    }
  } catch (...) {
    discard();  // now, not with the last reference to this: before the error can be sent
    throw;
  }
  return true;
}

bool Unfinished::send() {
  if (next_ < values_.size()) throw std::logic_error("not every value is stored");
  return send_(*core_, task_, std::exchange(results_, {}));
}

void Unfinished::discard() {
  core_->discard_results(task_, first_index_, results_);
  results_.clear();
}

bool Unfinished::store_next(const core::WaitFor& wait) {
  const Parts& parts = serialized_->parts;
  const auto index = static_cast<std::uint32_t>(first_index_ + next_);
  const auto make = [&] { return core_->make_result(task_, index, parts, wait, results_[next_]); };
  if (parts.size() <= core_->limits().inline_bytes) return make();
  const py::gil_scoped_release release;
  return make();
}

py::object store_and_send(std::unique_ptr<Unfinished> unfinished, bool wait) {
  if (!unfinished->store(wait ? store_wait(unfinished->core()) : nullptr)) {
    return py::cast(std::move(unfinished));
  }
  return py::bool_(unfinished->send());
}

py::object finish_task(const PyTask& task, const py::tuple& values, bool wait) {
  const auto send = [](Core& core, const core::TaskHandle& handle, std::vector<core::ResultParts> results) {
    core.finish(handle, core::TaskStatus::kOk, std::move(results), {});
    return true;
  };
  return store_and_send(std::make_unique<Unfinished>(task, values, 0, send), wait);
}

void bind_results(py::module_& module) {
  py::class_<Unfinished>(module, "Unfinished")
      .def("store", [](Unfinished& self) { self.store(store_wait(self.core())); })
      .def("send", &Unfinished::send);
}

}  // namespace aktis::bindings
