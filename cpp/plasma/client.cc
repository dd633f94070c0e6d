#include "plasma/client.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "plasma/client_mapping.h"
#include "plasma/client_objects.h"
#include "plasma/slab_cutter.h"
#include "plasma/stream_copy.h"
#include "wire/log.h"

namespace aktis::plasma {
namespace {

constexpr std::size_t kFlushOpsBytes = 64u << 10;   // queued operations are sent at the latest then
constexpr std::chrono::milliseconds kQuietTime{1};  // a client that sent nothing for so long sends at once
constexpr auto kAnswerGrace = std::chrono::seconds(1);  // beyond the deadline that the store keeps itself
constexpr unsigned kMaxCopyThreads = 4;
constexpr std::size_t kMaxFds = 4;

wire::FrameHeader header_of(PlasmaFrame type, std::uint64_t correlation = 0) {
  return {.type = static_cast<std::uint16_t>(type), .correlation = correlation};
}

std::uint32_t milliseconds_until(wire::TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - wire::Clock::now()).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 0, 0xffffffff));
}

CreateError error_of(CreateStatus status) {
  switch (status) {
    case CreateStatus::kOk:
      return CreateError::kNone;
    case CreateStatus::kTooLarge:
      return CreateError::kTooLarge;
    case CreateStatus::kFull:
      return CreateError::kFull;
    case CreateStatus::kExists:
      return CreateError::kExists;
  }
  return CreateError::kDisconnected;
}

}  // namespace

// Lock order: mutex, then the connection's and the reactor's own (both are leaves). The listener is never
// called with the mutex held.
struct Client::Impl final : wire::ConnectionDelegate,
                            wire::EventHandler,
                            std::enable_shared_from_this<Client::Impl> {
  struct PendingCreate {
    wire::Waiter* waiter = nullptr;
    std::optional<CreateReply> reply;
  };

  Impl(wire::Reactor& the_reactor, wire::Baton& the_baton, ClientConfig the_config,
       std::shared_ptr<ClientListener> the_listener)
      : reactor(the_reactor),
        baton(the_baton),
        config(std::move(the_config)),
        listener(std::move(the_listener)) {
    if (config.max_copy_threads == 0) {
      config.max_copy_threads = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxCopyThreads);
    }
  }

  // ---- polling thread ----

  void on_fds(wire::Connection&, std::vector<wire::UniqueFd> fds) override {
    if (!fds.empty()) arena_fd = std::move(fds.front());
  }

  void on_frame(wire::Connection& from, const wire::Frame& frame) override {
    bool understood = false;
    if (frame.header.type == static_cast<std::uint16_t>(wire::FrameType::kPong)) return on_pong(frame);
    switch (static_cast<PlasmaFrame>(frame.header.type)) {
      case PlasmaFrame::kArena:
        understood = on_arena(frame.payload);
        break;
      case PlasmaFrame::kCreated:
        understood = on_created(frame);
        break;
      case PlasmaFrame::kSlabGrant:
        understood = on_grant(frame.payload);
        break;
      case PlasmaFrame::kObjects:
        understood = on_objects(frame.payload);
        break;
      case PlasmaFrame::kReclaim:
        understood = on_reclaim();
        break;
      default:
        break;
    }
    if (understood) return;
    from.close("malformed frame of type " + std::to_string(frame.header.type) + " from the store");
  }

  bool on_arena(std::span<const std::byte> payload) {
    const auto info = decode_arena(payload);
    if (const std::lock_guard lock(mutex); !info || !arena_fd || mapping) return false;  // views of one stay
    std::shared_ptr<ClientMapping> mapped;
    std::string problem;
    try {
      mapped = std::make_shared<ClientMapping>(std::move(arena_fd), info->arena_bytes);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    std::lock_guard lock(mutex);
    mapping = mapped;
    failure = problem;
    create_timeout = std::chrono::milliseconds(info->create_timeout_ms);
    slab_max_object_bytes = std::min<std::uint64_t>(config.slab_max_object_bytes, info->slab_max_bytes / 4);
    if (connect_waiter != nullptr) connect_waiter->complete();
    return true;
  }

  bool on_created(const wire::Frame& frame) {
    auto reply = decode_created(frame.payload);
    std::lock_guard lock(mutex);
    if (!reply || !mapping || !mapping->holds(reply->offset, 0)) return false;
    auto found = pending.find(frame.header.correlation);
    if (found == pending.end()) {  // its creator gave up waiting
      if (reply->status == CreateStatus::kOk) ops.abort(reply->offset), flush_soon();
      return true;
    }
    found->second.reply = std::move(*reply);
    found->second.waiter->complete();
    return true;
  }

  // Posted, so that objects which were here already and are delivered by a post come first.
  void on_pong(const wire::Frame& frame) {
    reactor.post([self = shared_from_this(), correlation = frame.header.correlation] {
      std::lock_guard lock(self->mutex);
      auto found = self->syncs.find(correlation);
      if (found != self->syncs.end()) found->second->complete();
    });
  }

  bool on_grant(std::span<const std::byte> payload) {
    const auto grant = decode_slab_grant(payload);
    std::lock_guard lock(mutex);
    if (!grant || !mapping || !mapping->holds(grant->offset, grant->size_bytes)) return false;
    slabs.granted(*grant, wire::Clock::now(), ops);
    if (ops.size() > 0) flush_soon();
    return true;
  }

  bool on_objects(std::span<const std::byte> payload) {
    const auto replies = decode_objects(payload);
    if (!replies) return false;
    std::vector<std::pair<ObjectId, std::optional<ObjectView>>> news;
    std::shared_ptr<ClientListener> hears;
    {
      std::lock_guard lock(mutex);
      if (!mapping) return false;
      for (const ObjectReply& reply : *replies) {
        if (!mapping->holds(reply.offset, reply.size_bytes)) return false;
        switch (objects.answer(reply, ops)) {
          case ClientObjects::Outcome::kDeliver:
            news.emplace_back(reply.id, view({reply.offset, reply.size_bytes}));
            break;
          case ClientObjects::Outcome::kLost:
            news.emplace_back(reply.id, std::nullopt);
            break;
          case ClientObjects::Outcome::kIgnore:
            break;
        }
      }
      if (ops.size() > 0) flush_soon();
      hears = listener;
    }
    if (!hears) return true;
    for (const auto& [id, found] : news) {
      if (found) {
        hears->on_object(id, *found);
      } else {
        hears->on_object_lost(id);
      }
    }
    return true;
  }

  bool on_reclaim() {
    std::lock_guard lock(mutex);
    slabs.reclaim(ops);
    objects.release_idle(wire::Clock::now(), true, ops);
    if (mapping) mapping->forget_populated();
    flush_locked();
    return true;
  }

  void on_flush() override {
    std::lock_guard lock(mutex);
    flush_asked = false;
    flush_locked();
  }

  void on_ready(std::uint32_t) override {}  // watches no descriptor; is an EventHandler for on_flush()

  void on_closed(wire::Connection&, const std::string& reason) override {
    std::shared_ptr<ClientListener> hears;
    {
      std::lock_guard lock(mutex);
      open = false;
      if (failure.empty()) failure = reason;
      for (auto& [correlation, waiting] : pending) waiting.waiter->complete();
      for (auto& [correlation, waiter] : syncs) waiter->complete();
      if (connect_waiter != nullptr) connect_waiter->complete();
      if (was_connected) hears = listener;
    }
    if (hears) hears->on_disconnected(reason);
  }

  // ---- mutex held ----

  ObjectView view(const Place& place) const {  // empty when closed
    return mapping ? ObjectView{mapping->readable(place.offset, place.size_bytes)} : ObjectView{};
  }

  void deliver(const ObjectId& id, ObjectView found) {
    reactor.post([hears = listener, id, found] {
      if (hears) hears->on_object(id, found);
    });
  }

  // After operations were queued: a client that was quiet sends at once, a busy one in batches.
  void flush_soon() {
    if (ops.size() >= kFlushOpsBytes || wire::Clock::now() - flushed_at >= kQuietTime) return flush_locked();
    if (flush_asked) return;
    flush_asked = true;
    reactor.flush_later(shared_from_this());
  }

  void flush_locked() {
    if (ops.size() == 0) return;
    if (open) {
      flushed_at = wire::Clock::now();
      const auto result = connection->send(header_of(PlasmaFrame::kOps), ops.view());
      if (result == wire::SendResult::kQueueFull)
        connection->close("the store does not read what is sent to it");
    }
    ops.clear();
  }

  void ask_for_slab(std::uint64_t object_bytes) {
    if (!open || object_bytes > slab_max_object_bytes) return;
    const auto wanted = slabs.take_request(object_bytes, wire::Clock::now());
    if (wanted) connection->send(header_of(PlasmaFrame::kSlabRequest), encode(SlabRequest{*wanted}));
  }

  std::optional<CreateResult> create_in_slab(const ObjectId& id, std::size_t size_bytes,
                                             const WorkerId& owner, bool primary) {
    if (!open) return CreateResult{CreateError::kDisconnected, disconnected_message(), {}};
    const auto may = objects.may_create(id, ops);
    if (may == ClientObjects::MayCreate::kExists) return exists(id);
    if (may == ClientObjects::MayCreate::kAskStore) return std::nullopt;
    if (size_bytes > slab_max_object_bytes) return std::nullopt;
    const auto cut = slabs.cut(size_bytes, ops);
    ask_for_slab(size_bytes);
    if (!cut) return std::nullopt;
    ++counters.slab_creates;
    objects.created(id, owner, {cut->offset, size_bytes}, cut, primary);
    return CreateResult{CreateError::kNone, "", mapping->writable(cut->offset, size_bytes)};
  }

  // The store's answer if it has come; else the store need not look for room any longer.
  std::optional<CreateReply> end_waiting(std::uint64_t correlation) {
    auto ended = pending.extract(correlation);
    if (ended && !ended.mapped().reply && open) {
      ops.cancel_create(correlation);
      flush_locked();  // at once: others may stand behind it
    }
    return ended ? std::move(ended.mapped().reply) : std::nullopt;
  }

  static CreateResult exists(const ObjectId& id) {
    return {CreateError::kExists, "object " + id.hex() + " exists already", {}};
  }

  std::string disconnected_message() const {
    return "the object store at " + config.address +
           " is gone: " + (failure.empty() ? "not connected" : failure);
  }

  void arm_idle_timer() {
    const auto deadline = objects.next_idle_deadline();
    if (idle_timer_armed || !deadline || !open) return;
    idle_timer_armed = true;
    const auto delay = std::chrono::ceil<std::chrono::milliseconds>(*deadline - wire::Clock::now());
    reactor.call_after(std::max(delay, std::chrono::milliseconds(1)), [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->on_idle_timer();
    });
  }

  void on_idle_timer() {
    std::lock_guard lock(mutex);
    idle_timer_armed = false;
    objects.release_idle(wire::Clock::now(), false, ops);
    flush_locked();
    arm_idle_timer();
  }

  // Constant after construction.
  wire::Reactor& reactor;
  wire::Baton& baton;
  ClientConfig config;

  // Polling thread only.
  wire::UniqueFd arena_fd;

  std::mutex mutex;  // guards what follows
  std::shared_ptr<ClientListener> listener;
  std::shared_ptr<wire::Connection> connection;
  std::shared_ptr<ClientMapping> mapping;
  bool open = false;
  bool was_connected = false;
  std::string failure;
  wire::Waiter* connect_waiter = nullptr;
  std::uint64_t slab_max_object_bytes = 0;
  ClientObjects objects{ClientObjects::IdleLimits{}, config.asks_for_sealed};
  SlabCutter slabs;
  OpWriter ops;  // not sent yet
  bool flush_asked = false;
  bool idle_timer_armed = false;
  wire::TimePoint flushed_at{};
  std::unordered_map<std::uint64_t, PendingCreate> pending;
  std::unordered_map<std::uint64_t, wire::Waiter*> syncs;
  std::chrono::milliseconds create_timeout{0};
  std::uint64_t last_correlation = 0;
  Statistics counters;
};

Client::Client(wire::Reactor& reactor, wire::Baton& baton, ClientConfig config,
               std::shared_ptr<ClientListener> listener)
    : impl_(std::make_shared<Impl>(reactor, baton, std::move(config), std::move(listener))) {}

Client::~Client() { close(); }

void Client::close() {
  std::shared_ptr<wire::Connection> connection;
  std::shared_ptr<ClientMapping> mapping;  // unmapped after the lock is released
  {
    std::lock_guard lock(impl_->mutex);
    impl_->flush_locked();
    impl_->listener.reset();
    impl_->open = false;
    if (impl_->failure.empty()) impl_->failure = "this client is closed";
    for (auto& [correlation, waiting] : impl_->pending) waiting.waiter->complete();
    for (auto& [correlation, waiter] : impl_->syncs) waiter->complete();
    connection = std::move(impl_->connection);
    mapping = std::move(impl_->mapping);
  }
  if (connection && !impl_->reactor.in_forked_child()) connection->close("the client is closed");
}

void Client::connect(wire::TimePoint deadline) {
  wire::Waiter waiter;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->connection) throw std::runtime_error("object store: already connected");
    impl_->connect_waiter = &waiter;
  }
  wire::ConnectionLimits limits;
  limits.max_received_fds = kMaxFds;
  auto connection = wire::Connection::connect(impl_->reactor, impl_->config.address, impl_->config.hello,
                                              WorkerId{}, impl_, limits);
  impl_->baton.wait(waiter, deadline);
  std::unique_lock lock(impl_->mutex);
  impl_->connect_waiter = nullptr;
  if (impl_->mapping && impl_->failure.empty()) {
    impl_->connection = std::move(connection);
    impl_->open = impl_->was_connected = true;
    return;
  }
  const std::string reason = impl_->failure.empty() ? "no answer in time" : impl_->failure;
  lock.unlock();
  connection->close("connecting failed");
  throw std::runtime_error("cannot use the object store at " + impl_->config.address + ": " + reason);
}

std::optional<CreateResult> Client::try_create(const ObjectId& id, std::size_t size_bytes,
                                               const WorkerId& owner) {
  std::lock_guard lock(impl_->mutex);
  auto created = impl_->create_in_slab(id, size_bytes, owner, true);
  if (impl_->ops.size() > 0) impl_->flush_soon();
  return created;
}

CreateResult Client::create(const ObjectId& id, std::size_t size_bytes, const WorkerId& owner,
                            wire::TimePoint deadline, bool primary) {
  Creation creation;
  begin_create(creation, id, size_bytes, owner, deadline, primary);
  impl_->baton.wait(creation.waiter, creation.give_up_at());
  return end_create(creation);
}

void Client::begin_create(Creation& creation, const ObjectId& id, std::size_t size_bytes,
                          const WorkerId& owner, wire::TimePoint deadline, bool primary) {
  creation.id_ = id;
  creation.owner_ = owner;
  creation.size_bytes_ = size_bytes;
  creation.primary_ = primary;
  creation.deadline_ = deadline;
  std::lock_guard lock(impl_->mutex);
  creation.result_ = impl_->create_in_slab(id, size_bytes, owner, primary);
  if (creation.result_) {
    if (impl_->ops.size() > 0) impl_->flush_soon();
    creation.waiter.complete();
    return;
  }
  ++impl_->counters.round_trip_creates;
  creation.asked_ = impl_;
  creation.correlation_ = ++impl_->last_correlation;
  impl_->pending[creation.correlation_].waiter = &creation.waiter;
  impl_->flush_locked();  // what was released or deleted before may make the room
  const CreateRequest request{id, owner, size_bytes, milliseconds_until(deadline),
                              static_cast<std::uint8_t>(primary ? kPrimary : 0)};
  impl_->connection->send(header_of(PlasmaFrame::kCreate, creation.correlation_), encode(request));
}

CreateResult Client::end_create(Creation& creation) {
  if (creation.result_) return *creation.result_;
  std::lock_guard lock(impl_->mutex);
  const auto reply = impl_->end_waiting(creation.correlation_);
  creation.asked_.reset();
  if (!impl_->mapping || (!reply && !impl_->open))
    return {CreateError::kDisconnected, impl_->disconnected_message(), {}};
  if (!reply) return {CreateError::kFull, "the object store did not answer in time", {}};
  if (reply->status != CreateStatus::kOk) return {error_of(reply->status), reply->message, {}};
  const Place place{reply->offset, creation.size_bytes_};
  if (!impl_->mapping->holds(place.offset, place.size_bytes) ||
      impl_->objects.may_create(creation.id_, impl_->ops) == ClientObjects::MayCreate::kExists) {
    impl_->ops.abort(reply->offset);  // made by another thread of this process meanwhile
    impl_->flush_soon();
    return Impl::exists(creation.id_);
  }
  impl_->objects.created(creation.id_, creation.owner_, place, std::nullopt, creation.primary_);
  return {CreateError::kNone, "", impl_->mapping->writable(place.offset, place.size_bytes)};
}

Client::Creation::~Creation() {
  if (!asked_) return;
  std::lock_guard lock(asked_->mutex);
  const auto reply = asked_->end_waiting(correlation_);
  if (reply && reply->status == CreateStatus::kOk) {
    asked_->ops.abort(reply->offset);
    asked_->flush_soon();
  }
}

wire::TimePoint Client::Creation::give_up_at() const {
  const bool bounded = deadline_ < wire::TimePoint::max() - kAnswerGrace;
  return bounded ? deadline_ + kAnswerGrace : deadline_;
}

ObjectView Client::seal(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  const auto sealed = impl_->objects.seal(id);
  impl_->ops.seal(sealed.op);
  if (sealed.cut) impl_->slabs.settle(*sealed.cut, impl_->ops);
  impl_->flush_soon();
  const ObjectView view = impl_->view({sealed.op.offset, sealed.op.size_bytes});
  if (sealed.wanted) impl_->deliver(id, view);
  return view;
}

void Client::abort(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  const auto aborted = impl_->objects.abort(id, impl_->ops);
  if (aborted.cut) {
    impl_->slabs.settle(*aborted.cut, impl_->ops);
  } else {
    impl_->ops.abort(aborted.place.offset);
  }
  if (impl_->ops.size() > 0) impl_->flush_soon();
  if (aborted.wanted) impl_->deliver(id, impl_->view(*aborted.wanted));
}

std::optional<ObjectView> Client::pin_if_mapped(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  const auto place = impl_->mapping ? impl_->objects.pin_if_mapped(id) : std::nullopt;
  return place ? std::optional(impl_->view(*place)) : std::nullopt;
}

std::shared_ptr<const void> Client::pin(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->objects.pin(id)) throw std::logic_error("pin of object " + id.hex() + ", which is not pinned");
  return impl_->mapping;
}

void Client::unpin(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->objects.unpin(id, wire::Clock::now(), impl_->ops)) {
    throw std::logic_error("unpin of object " + id.hex() + ", which is not pinned");
  }
  if (impl_->ops.size() > 0) impl_->flush_soon();
  impl_->arm_idle_timer();
}

void Client::request(std::span<const ObjectId> ids) {
  std::vector<std::pair<ObjectId, ObjectView>> here;
  std::vector<ObjectId> lost;  // the store that could have them is gone
  std::lock_guard lock(impl_->mutex);
  for (const ObjectId& id : ids) {
    if (const auto place = impl_->objects.ask(id, impl_->ops)) {
      here.emplace_back(id, impl_->view(*place));
    } else if (!impl_->open) {
      impl_->objects.cancel(id, impl_->ops);
      lost.push_back(id);
    }
    if (impl_->ops.size() >= kFlushOpsBytes) impl_->flush_locked();
  }
  impl_->flush_locked();
  if (here.empty() && lost.empty()) return;
  impl_->reactor.post([listener = impl_->listener, here = std::move(here), lost = std::move(lost)] {
    if (!listener) return;
    for (const auto& [id, view] : here) listener->on_object(id, view);
    for (const ObjectId& id : lost) listener->on_object_lost(id);
  });
}

void Client::cancel_request(const ObjectId& id) {
  std::lock_guard lock(impl_->mutex);
  impl_->objects.cancel(id, impl_->ops);
  if (impl_->ops.size() > 0) impl_->flush_soon();
}

void Client::remove(std::span<const ObjectId> ids) {
  std::lock_guard lock(impl_->mutex);
  for (const ObjectId& id : ids) {
    impl_->objects.remove(id, impl_->ops);
    if (impl_->ops.size() >= kFlushOpsBytes) impl_->flush_locked();
  }
  if (impl_->ops.size() > 0) impl_->flush_soon();
}

void Client::flush() {
  std::lock_guard lock(impl_->mutex);
  impl_->flush_locked();
}

bool Client::sync(wire::TimePoint deadline) {
  wire::Waiter waiter;
  wire::FrameHeader ping;
  ping.type = static_cast<std::uint16_t>(wire::FrameType::kPing);
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->open) return false;
    impl_->flush_locked();
    ping.correlation = ++impl_->last_correlation;
    impl_->syncs.emplace(ping.correlation, &waiter);
    impl_->connection->send(ping, std::span<const std::byte>{});
  }
  const bool answered = impl_->baton.wait(waiter, deadline);
  std::lock_guard lock(impl_->mutex);
  impl_->syncs.erase(ping.correlation);
  return answered && impl_->open;
}

std::chrono::milliseconds Client::create_timeout() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->create_timeout;
}

std::shared_ptr<const void> Client::mapping() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->mapping;
}

void Client::copy(std::span<std::byte> to, std::span<const std::byte> from) const {
  if (to.size() != from.size()) throw std::invalid_argument("copy between ranges of different sizes");
  std::unique_lock lock(impl_->mutex);
  const std::shared_ptr<ClientMapping> mapping = impl_->mapping;
  if (!mapping && !impl_->was_connected) throw std::logic_error("copy before the store is connected");
  lock.unlock();
  if (!mapping) return stream_copy(to, from);  // closed meanwhile
  const bool large = to.size() >= impl_->config.copy_threads_min_bytes;
  mapping->copy(to, from, large ? impl_->config.max_copy_threads : 1);
}

std::vector<std::pair<ObjectId, std::uint64_t>> Client::in_use(std::size_t limit) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->objects.in_use(limit);
}

Client::Statistics Client::statistics() const {
  std::lock_guard lock(impl_->mutex);
  Statistics result = impl_->counters;
  result.mapped_objects = impl_->objects.held();
  result.pinned_bytes = impl_->objects.held_bytes();
  return result;
}

}  // namespace aktis::plasma
