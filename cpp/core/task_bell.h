// Tells an event loop that there are tasks to take, through a descriptor that becomes readable.
//
// The descriptor is an epoll instance over the reactor's own one (frames have come: the loop may poll them by
// itself, without another thread in between) and over an eventfd (another thread has polled, and tasks lie in
// the queues). Guarded by the core's mutex; not used at all until a loop asks for the descriptor.
#pragma once

namespace aktis::core {

class TaskBell {
 public:
  TaskBell() = default;
  ~TaskBell();
  TaskBell(const TaskBell&) = delete;
  TaskBell& operator=(const TaskBell&) = delete;

  // The descriptor; made at the first call. Throws std::system_error when the system has none left.
  int open(int reactor_fd);
  // Whether a loop takes the tasks.
  bool is_watched() const { return watch_ >= 0; }
  // There are tasks in the queues. Silent while the loop itself polls: it looks at the queues afterwards.
  void ring();
  // The loop is about to look at the queues.
  void quiet();
  void set_loop_polls(bool polls) { loop_polls_ = polls; }

 private:
  int watch_ = -1;
  int event_ = -1;
  bool rung_ = false;
  bool loop_polls_ = false;
};

}  // namespace aktis::core
