// Tasks of one class that wait for a worker: those of higher priority first, equal ones in their order.
//
// Nearly always there is one priority; then this is one deque.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "core/tasks.h"

namespace aktis::core {

class TaskQueue {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::int32_t top_priority() const { return levels_.begin()->first; }  // not empty
  TaskRecord& front() const { return *levels_.begin()->second.front(); }

  void push_back(TaskRecord& task) { level(task).push_back(&task), ++size_; }
  void push_front(TaskRecord& task) { level(task).push_front(&task), ++size_; }

  void pop_front() {
    const auto first = levels_.begin();
    first->second.pop_front();
    --size_;
    if (first->second.empty()) levels_.erase(first);
  }

  bool remove(TaskRecord& task) {
    const auto found = levels_.find(task.shape->priority);
    if (found == levels_.end()) return false;
    auto& tasks = found->second;
    const auto place = std::find(tasks.begin(), tasks.end(), &task);
    if (place == tasks.end()) return false;
    tasks.erase(place);
    --size_;
    if (tasks.empty()) levels_.erase(found);
    return true;
  }

  std::vector<TaskRecord*> all() const {
    std::vector<TaskRecord*> tasks;
    tasks.reserve(size_);
    for (const auto& [priority, level] : levels_) tasks.insert(tasks.end(), level.begin(), level.end());
    return tasks;
  }

 private:
  std::deque<TaskRecord*>& level(const TaskRecord& task) { return levels_[task.shape->priority]; }

  std::map<std::int32_t, std::deque<TaskRecord*>, std::greater<>> levels_;  // none is empty
  std::size_t size_ = 0;
};

}  // namespace aktis::core
