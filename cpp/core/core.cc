// Life of the core: identity, connections, waiting, closing.
#include "core/core.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/delegates.h"

namespace aktis::core {

namespace {

// Serialized ClientMessage{set_blocked{blocked}} (field 6, a submessage whose field 1 is a bool).
constexpr std::byte kSetBlocked[] = {std::byte{0x32}, std::byte{2}, std::byte{8}, std::byte{1}};
constexpr std::byte kSetUnblocked[] = {std::byte{0x32}, std::byte{0}};
constexpr std::chrono::seconds kClosingRoundLimit{1};
constexpr int kClosingRounds = 4;  // posted closes, what they post, what they open, and one to spare

}  // namespace

Core::Core(CoreConfig config)
    : config_(std::move(config)),
      reactor_(limits_.spin),
      baton_(reactor_, config_.linger),
      events_(limits_.control_queue_bytes),
      references_(config_.worker),
      lineage_(references_, limits_.lineage_bytes),
      scheduling_(*this, limits_.scheduling),
      actor_calls_(*this, limits_.actor_window) {
  peer_delegate_ = std::make_shared<PeerDelegate>(*this);
  raylet_delegate_ = std::make_shared<RayletDelegate>(*this);
  reactor_.add_flush_hook([this] {
    Guard guard(mutex_);
    drain_drops();
    if (!leaving_waiters_.empty()) look_whether_left();
    dirty_.clear();  // the connections flush themselves in this round
    urgent_ = false;
    unlock_and_flush(guard);
  });
}

Core::~Core() { close(); }

void Core::set_identity(const NodeId& node, const JobId& job) {
  Guard guard(mutex_);
  node_ = node;
  job_ = job;
  task_events_.set_identity(config_.worker, node, job);
}

void Core::set_limits(const CoreLimits& limits) {
  Guard guard(mutex_);
  limits_ = limits;
  events_.set_control_limit(limits.control_queue_bytes);
  scheduling_.set_config(limits.scheduling);
  actor_calls_.set_window(limits.actor_window);
  lineage_.set_limit(limits.lineage_bytes);
  reactor_.set_spin(limits.spin);
  settle_references();
  unlock_and_flush(guard);
}

wire::Hello Core::hello() const {
  wire::Hello hello;
  hello.role = config_.role;
  hello.sender = config_.worker;
  hello.node = node_;
  hello.token = config_.token;
  hello.pid = static_cast<std::uint32_t>(getpid());
  return hello;
}

wire::HandshakePolicy Core::policy() const {
  wire::HandshakePolicy policy;
  policy.self = hello();
  policy.token = config_.token;
  policy.accepted_roles = {wire::Role::kDriver, wire::Role::kWorker};
  policy.required_uid = static_cast<std::uint32_t>(getuid());
  return policy;
}

void Core::connect_raylet(wire::TimePoint deadline) {
  raylet_ =
      wire::Connection::connect(reactor_, config_.raylet_address, hello(), WorkerId{}, raylet_delegate_);
  baton_.wait(raylet_delegate_->opened(), deadline);
  const std::string problem = raylet_delegate_->problem();
  if (problem.empty()) return;
  raylet_->close("given up");
  throw CoreError("cannot talk to the raylet at " + config_.raylet_address + ": " + problem);
}

std::string Core::listen(const std::string& sockets_dir) {
  const std::string address = "unix:" + sockets_dir + "/" + config_.worker.hex() + ".sock";
  auto listener = wire::Listener::listen(
      reactor_, address,
      [this](wire::UniqueFd fd, const wire::PeerCredentials&) { on_peer_accepted(std::move(fd)); });
  Guard guard(mutex_);
  sockets_dir_ = sockets_dir;
  listener_ = std::move(listener);
  address_ = address;
  return address;
}

void Core::connect_plasma(const std::string& address, wire::TimePoint deadline) {
  plasma::ClientConfig config;
  config.address = address;
  config.hello = hello();
  config.asks_for_sealed = true;  // only what its owner says to be in shared memory
  auto client =
      std::make_unique<plasma::Client>(reactor_, baton_, config, std::make_shared<StoreListener>(*this));
  client->connect(deadline);
  Guard guard(mutex_);
  plasma_ = std::move(client);
}

void Core::close() {
  if (closed_.exchange(true) || reactor_.in_forked_child()) return;
  {
    Guard guard(mutex_);
    for (auto& [request, call] : calls_) {
      call->failed = true;
      call->waiter.complete();
    }
  }
  if (listener_) listener_->close();
  if (plasma_) plasma_->close();  // the arena goes, unless a value in it is being read
  if (raylet_) raylet_->close("shut down");
  events_.wake();
  // Descriptors are closed by whoever polls, and from now on nobody may: references that are still held keep
  // this object, and with it every connection, alive. What a round reads may still open connections.
  for (int round = 0; round < kClosingRounds; ++round) {
    close_peers();
    poll_what_was_posted();
  }
}

// Another thread may have the baton, and give it up before it has done what was posted.
void Core::poll_what_was_posted() {
  const auto done = std::make_shared<wire::Waiter>();
  reactor_.post([done] { done->complete(); });
  baton_.wait(*done, wire::Clock::now() + kClosingRoundLimit);
}

void Core::close_peers() {
  std::vector<std::shared_ptr<wire::Connection>> all;
  {
    Guard guard(mutex_);
    for (auto& [worker, peer] : peers_) {
      if (peer.connection) all.push_back(peer.connection);
    }
    for (auto& [connection, worker] : open_) all.push_back(connection->shared_from_this());
    for (auto& arriving : arriving_) {
      if (auto connection = arriving.lock()) all.push_back(std::move(connection));
    }
  }
  for (auto& connection : all) connection->close("shut down");
}

RefId Core::ref_of(const ObjectId& id) {
  Guard guard(mutex_);
  RefId ref{id, references_.owner_of(id), node_};
  if (const ObjectEntry* known = find(id); known != nullptr && !known->owned) ref.node = known->node;
  if (ref.owner.is_nil()) ref.owner = config_.worker;
  return ref;
}

// ---- waiting ----

Core::BlockScope::BlockScope(Core& core, TaskHandle task)
    : core_(core), task_(std::move(task)), began_(wire::Clock::now()) {}

Core::BlockScope::~BlockScope() {
  if (!gave_back_ || !task_) return;
  Guard guard(core_.mutex_);
  core_.count_blocked(*task_, -1, told_ ? -1 : 0);
  core_.unlock_and_flush(guard);
}

// Threads of `task` begin (or end) to wait with its queue given back, and of being known to wait. What a task
// leaves behind when it ends does not count (see finish): the thread of a task that is over lends out
// nothing.
void Core::count_blocked(IncomingTask& task, int given_back, int told) {
  if (task.ended) return;
  task.blocked_threads += given_back;
  blocked_threads_ += given_back;
  task.told_threads += told;
  const bool before = told_threads_ > 0;
  told_threads_ += told;
  if (before == (told_threads_ > 0) || !raylet_) return;
  const Bytes message = before ? Bytes(kSetUnblocked) : Bytes(kSetBlocked);
  queue(raylet_, wire::FrameType::kControl, {message}, true);
}

TaskHandle Core::only_task() {
  if (config_.role != wire::Role::kWorker) return nullptr;
  Guard guard(mutex_);
  return gives_back() && running_.size() == 1 ? running_.begin()->second : nullptr;
}

bool Core::wait_briefly(wire::Waiter& waiter, wire::TimePoint deadline) {
  return baton_.wait(waiter, std::min(deadline, wire::Clock::now() + config_.blocked_after));
}

bool Core::wait(wire::Waiter& waiter, wire::TimePoint deadline, BlockScope& scope) {
  flush_all();
  if (waiter.completed()) return true;
  if (!scope.task_) return baton_.wait(waiter, deadline);
  bool needs_raylet = false;
  if (!scope.gave_back_) {
    Guard guard(mutex_);
    scope.gave_back_ = true;
    // An actor goes on with other calls while one of them waits in a thread of its own.
    const bool counts = gives_back() || scope.task_->thread == std::this_thread::get_id();
    if (!counts || scope.task_->ended) scope.task_ = nullptr;
    if (scope.task_) {
      count_blocked(*scope.task_, 1, 0);
      give_back_queued();
      needs_raylet = scheduling_.starves();
    }
    unlock_and_flush(guard);
    if (!scope.task_) return baton_.wait(waiter, deadline);
  }
  if (!scope.told_) {
    // Short waits are not worth telling. But what waits for a first lease is not short, and may be for the
    // very CPU that is ours to lend.
    const auto patience =
        std::min(deadline, needs_raylet ? scope.began_ : scope.began_ + config_.blocked_after);
    if (baton_.wait(waiter, patience)) return true;
    if (patience == deadline) return false;
    Guard guard(mutex_);
    scope.told_ = true;
    count_blocked(*scope.task_, 0, 1);
    unlock_and_flush(guard);
  }
  return baton_.wait(waiter, deadline);
}

std::vector<Event> Core::next_events(wire::TimePoint deadline) {
  // take() forgets that somebody woke us, maybe for an event of Python's own that came since Python looked:
  // so whoever was woken looks again and does not wait.
  if (!events_.waiter().completed()) baton_.serve(events_.waiter(), deadline);
  return events_.take();
}

std::vector<std::pair<std::string, std::int64_t>> Core::statistics() {
  Guard guard(mutex_);
  drain_drops();
  std::int64_t owned = 0;
  for (const auto& [id, known] : objects_) owned += known.owned ? 1 : 0;
  const auto baton = baton_.statistics();
  std::vector<std::pair<std::string, std::int64_t>> all = {
      {"objects", static_cast<std::int64_t>(objects_.size())},
      {"owned_objects", owned},
      {"references", static_cast<std::int64_t>(references_.size())},
      {"tasks", static_cast<std::int64_t>(tasks_.size() + copies_.size())},
      {"queued_tasks", static_cast<std::int64_t>(scheduling_.queued_count())},
      {"scheduling_classes", static_cast<std::int64_t>(scheduling_.class_count())},
      {"leases", static_cast<std::int64_t>(scheduling_.lease_count())},
      {"actor_calls_in_flight", static_cast<std::int64_t>(actor_calls_.in_flight())},
      {"connections", static_cast<std::int64_t>(open_.size())},
      {"in_flight_bytes", static_cast<std::int64_t>(in_flight_bytes_.load())},
      {"lineage_tasks", static_cast<std::int64_t>(lineage_.size())},
      {"lineage_bytes", static_cast<std::int64_t>(lineage_.bytes())},
      {"reconstructions", static_cast<std::int64_t>(reconstructions_)},
      {"second_runs", static_cast<std::int64_t>(copies_started_)},
      {"second_runs_won", static_cast<std::int64_t>(copies_won_)},
      {"queued_events", static_cast<std::int64_t>(events_.size())},
      {"queued_control_bytes", static_cast<std::int64_t>(events_.control_bytes())},
      {"rejected_frames", static_cast<std::int64_t>(rejected_frames_.load())},
      {"refused_peers", static_cast<std::int64_t>(refused_peers_.load())},
      {"overrun_peers", static_cast<std::int64_t>(overrun_peers_.load())},
      {"running", static_cast<std::int64_t>(running_.size() + taken_.size())},
      {"user_polls", static_cast<std::int64_t>(baton.user_polls)},
      {"service_polls", static_cast<std::int64_t>(baton.service_polls)},
      {"handovers", static_cast<std::int64_t>(baton.handovers)},
  };
  if (plasma_) {
    const auto store = plasma_->statistics();
    all.emplace_back("mapped_objects", static_cast<std::int64_t>(store.mapped_objects));
    all.emplace_back("pinned_bytes", static_cast<std::int64_t>(store.pinned_bytes));
  }
  unlock_and_flush(guard);
  return all;
}

}  // namespace aktis::core
