// Values that a task hands to its owner: its results, or an item of its stream.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/tasks.h"

namespace aktis::bindings {

// Values that are stored one after the other and then sent together. When one fails, or this ends before they
// are sent, what is stored goes again. Needs the GIL, which it lets go of while it stores what is large.
class Unfinished {
 public:
  // Sends what has been made; its answer is that of send().
  using Send = std::function<bool(Core&, const core::TaskHandle&, std::vector<core::ResultParts>)>;

  Unfinished(const PyTask& task, py::tuple values, std::uint32_t first_index, Send send);
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

  // False when the next value would have to wait for the store, which only happens without `wait`. Raises
  // what serializing raises, the hook's exception when the store has no room, ConnectionError when it is
  // gone.
  bool store(const core::WaitFor& wait);
  bool send();
  Core& core() { return *core_; }

 private:
  void discard();
  bool store_next(const core::WaitFor& wait);

  const std::shared_ptr<Core> core_;
  const core::TaskHandle task_;
  const py::tuple values_;
  const std::uint32_t first_index_;
  const Send send_;
  std::vector<core::ResultParts> results_;
  std::size_t next_ = 0;                  // the first value that is not stored
  std::optional<Serialized> serialized_;  // of that one, when it had to wait
};

// What send() answers. Without `wait`, and when a value would have to wait for the store: what is left to do,
// of which store() may be called on another thread, and then send().
py::object store_and_send(std::unique_ptr<Unfinished> unfinished, bool wait);

// Stores the results of a task and sends its reply.
py::object finish_task(const PyTask& task, const py::tuple& values, bool wait);

}  // namespace aktis::bindings
