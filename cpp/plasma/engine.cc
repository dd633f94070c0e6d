#include "plasma/engine.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace aktis::plasma {
namespace {

std::int64_t system_clock_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

constexpr std::size_t kMaxTombstones = 65536;
constexpr std::size_t kMaxDeadOwners = 65536;
constexpr std::size_t kMaxExpected = 1'000'000;

}  // namespace

// Applies one batch of a session; collects why it was refused.
class Engine::OpHandler final : public OpVisitor {
 public:
  OpHandler(Engine& engine, Session& session, wire::TimePoint now)
      : engine_(engine), session_(session), now_(now) {}
  const std::string& reason() const { return reason_; }

  bool on_seal(const SealOp& op) override;
  bool on_release(std::uint64_t offset, std::uint32_t count) override;
  bool on_delete(const ObjectId& id) override;
  bool on_abort(std::uint64_t offset) override;
  bool on_get(const ObjectId& id) override;
  bool on_get_sealed(const ObjectId& id) override;
  bool on_cancel_get(const ObjectId& id) override;
  bool on_slab_trim(std::uint64_t slab, std::uint64_t used_bytes) override;
  bool on_slab_close(std::uint64_t slab) override;
  bool on_cancel_create(std::uint64_t correlation) override;

 private:
  bool refuse(std::string reason) {
    reason_ = std::move(reason);
    return false;
  }
  Object* created(const SealOp& op);
  Object* cut_from_slab(const SealOp& op);

  Engine& engine_;
  Session& session_;
  const wire::TimePoint now_;
  std::string reason_;
};

Engine::Engine(Allocator& allocator, ObjectTable& table, Outbox& outbox, EngineOptions options)
    : allocator_(allocator),
      table_(table),
      outbox_(outbox),
      options_(std::move(options)),
      catalog_(table, options_.wall_clock ? options_.wall_clock : system_clock_ns),
      waiting_(options_.max_pending_creates),
      expected_(kMaxExpected, options_.seal_grace),
      deleted_early_(kMaxTombstones, options_.tombstone_lifetime),
      dead_owners_(kMaxDeadOwners, std::chrono::hours(24)) {}

Engine::~Engine() = default;

std::uint64_t Engine::resume() {
  struct Found {
    std::uint64_t index;
    Slot slot;
  };
  std::vector<Found> found;
  std::uint64_t dropped =
      table_.recover([&](std::uint64_t index, const Slot& slot) { found.push_back({index, slot}); });
  std::sort(found.begin(), found.end(),
            [](const Found& left, const Found& right) { return left.slot.offset < right.slot.offset; });
  for (const Found& entry : found) {
    // Only sealed objects outlive the store: what was being written or had been deleted has no client now.
    const bool usable = entry.slot.state == ObjectState::kSealed && catalog_.find(entry.slot.id) == nullptr;
    Block* block = usable ? allocator_.reserve(entry.slot.offset, entry.slot.size_bytes) : nullptr;
    if (block != nullptr) {
      catalog_.adopt(entry.index, entry.slot, block);
    } else {
      table_.erase(entry.index);
      ++dropped;
    }
  }
  return dropped;
}

SessionId Engine::open_session(std::uint32_t pid, wire::TimePoint now) {
  auto session = std::make_unique<Session>();
  session->id = ++last_session_;
  session->pid = pid;
  session->active_at = now;
  sessions_.emplace(last_session_, std::move(session));
  return last_session_;
}

void Engine::close_session(SessionId id, wire::TimePoint now) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  Session& session = *found->second;
  ++counters_.disconnects;
  waiting_.drop_session(id);
  for (const ObjectId& wanted : session.waits) forget_wait(wanted, id);
  while (!session.creations.empty()) abort(session, *session.creations.begin()->second);
  for (auto& [offset, held] : session.pins) drop_pin(session, held);
  for (auto& [slab, range] : session.slabs) cut_off(session, slab, 0);
  freed_ = true;  // its waiting creation may have been what held up the others
  sessions_.erase(found);
  finish(now);
}

std::optional<std::string> Engine::handle(SessionId id, std::uint16_t frame_type, std::uint64_t correlation,
                                          std::span<const std::byte> payload, wire::TimePoint now) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return "frame for a session that is closed";
  Session& session = *found->second;
  std::optional<std::string> violation;
  switch (static_cast<PlasmaFrame>(frame_type)) {
    case PlasmaFrame::kOps:
      violation = handle_ops(session, payload, now);
      break;
    case PlasmaFrame::kCreate:
      violation = handle_create(session, correlation, payload, now);
      break;
    case PlasmaFrame::kSlabRequest:
      violation = handle_slab(session, correlation, payload, now);
      break;
    default:
      violation = "frame type " + std::to_string(frame_type) + " is not one that a client sends";
  }
  counters_.violations += violation.has_value();
  finish(now);
  return violation;
}

std::optional<std::string> Engine::handle_create(Session& session, std::uint64_t correlation,
                                                 std::span<const std::byte> payload, wire::TimePoint now) {
  const auto request = decode_create(payload);
  if (!request) return "malformed request to create an object";
  if (request->id.is_nil()) return "request to create an object with a nil id";
  if (request->size_bytes > allocator_.capacity_bytes()) {
    outbox_.created(session.id, correlation,
                    {CreateStatus::kTooLarge, 0, too_large_message(*request, allocator_.capacity_bytes())});
    return std::nullopt;
  }
  if (waiting_.empty() && try_create(session, correlation, *request, now)) return std::nullopt;
  const auto deadline = now + std::chrono::milliseconds(request->timeout_ms);
  if (!waiting_.push({session.id, correlation, *request, deadline})) {
    ++counters_.full_errors;
    outbox_.created(session.id, correlation,
                    {CreateStatus::kFull, 0,
                     std::to_string(waiting_.size()) + " creations already wait for room; try again later"});
  }
  return std::nullopt;  // finish() asks clients for unused memory, and answers what has expired already
}

std::optional<std::string> Engine::handle_slab(Session& session, std::uint64_t correlation,
                                               std::span<const std::byte> payload, wire::TimePoint now) {
  const auto request = decode_slab_request(payload);
  if (!request) return "malformed request for a slab";
  const std::uint64_t limit = options_.slabs.max_bytes;
  const bool refused =
      request->min_bytes > limit || session.slabs.size() >= options_.slabs.max_slabs || !waiting_.empty();
  Block* block = nullptr;
  if (!refused) {
    std::uint64_t bytes = session.next_lease_bytes(request->min_bytes, options_.slabs, now);
    const std::uint64_t least =
        std::max(footprint(request->min_bytes), std::min(options_.slabs.min_bytes, limit));
    block = allocator_.allocate(bytes);
    while (block == nullptr && bytes / 2 >= least) block = allocator_.allocate(bytes /= 2);
  }
  SlabGrant grant;
  if (block != nullptr) {
    session.add_slab(++last_slab_, block);
    session.active_at = active_at_ = now;
    session.reclaim_asked = false;
    counters_.allocated_bytes += block->size;
    counters_.slab_bytes += block->size;
    ++counters_.slabs;
    grant = {last_slab_, block->offset, block->size};
  }
  outbox_.slab(session.id, correlation, grant);
  return std::nullopt;
}

std::optional<std::string> Engine::handle_ops(Session& session, std::span<const std::byte> payload,
                                              wire::TimePoint now) {
  OpHandler handler(*this, session, now);
  switch (decode_ops(payload, handler)) {
    case OpsResult::kOk:
      return std::nullopt;
    case OpsResult::kMalformed:
      return "malformed batch of operations";
    case OpsResult::kRefused:
      return handler.reason();
  }
  return "unreachable";
}

Object* Engine::OpHandler::created(const SealOp& op) {
  auto found = session_.creations.find(op.offset);
  if (found == session_.creations.end()) return nullptr;
  Object* object = found->second;
  if (object->id != op.id || object->size_bytes != op.size_bytes) return nullptr;
  session_.creations.erase(found);
  session_.creating_bytes -= object->block->size;
  return object;
}

Object* Engine::OpHandler::cut_from_slab(const SealOp& op) {
  if (op.size_bytes > engine_.options_.slabs.max_bytes) return nullptr;
  Block* block = session_.carve(engine_.allocator_, op.offset, footprint(op.size_bytes));
  if (block == nullptr) return nullptr;
  engine_.counters_.slab_bytes -= block->size;
  return &engine_.catalog_.add(
      {op.id, op.owner, block, op.size_bytes, session_.pid, (op.flags & kPrimary) != 0}, false);
}

bool Engine::OpHandler::on_seal(const SealOp& op) {
  if (op.id.is_nil()) return refuse("seal of a nil object id");
  Object* object = created(op);
  if (object == nullptr) object = cut_from_slab(op);
  if (object == nullptr) {
    return refuse("seal of object " + op.id.hex() + " at " + std::to_string(op.offset) + "+" +
                  std::to_string(op.size_bytes) + ", which this client was not given or has sealed already");
  }
  session_.active_at = now_;
  session_.reclaim_asked = false;
  engine_.publish(session_, *object, now_);
  return true;
}

bool Engine::OpHandler::on_release(std::uint64_t offset, std::uint32_t count) {
  auto found = session_.pins.find(offset);
  if (found == session_.pins.end() || count == 0 || count > found->second.count) {
    return refuse("release of " + std::to_string(count) + " pins at " + std::to_string(offset) +
                  ", which this client does not hold");
  }
  ++engine_.counters_.releases;
  if ((found->second.count -= count) == 0) {
    engine_.drop_pin(session_, found->second);
    session_.pins.erase(found);
  }
  return true;
}

bool Engine::OpHandler::on_delete(const ObjectId& id) {
  engine_.remove(id, now_);
  return true;
}

bool Engine::OpHandler::on_abort(std::uint64_t offset) {
  auto found = session_.creations.find(offset);
  if (found == session_.creations.end()) return refuse("abort of an object that this client is not creating");
  engine_.abort(session_, *found->second);
  return true;
}

bool Engine::OpHandler::on_get(const ObjectId& id) {
  ++engine_.counters_.gets;
  Object* object = engine_.catalog_.find(id);
  if (object != nullptr && object->state == ObjectState::kSealed) {
    engine_.pin(session_, *object);
    engine_.answer(session_, *object);
    return true;
  }
  if (session_.waits.size() >= engine_.options_.max_waits_per_client) {
    return refuse("more than " + std::to_string(engine_.options_.max_waits_per_client) +
                  " objects waited for");
  }
  if (session_.waits.insert(id).second) engine_.waiters_[id].push_back(session_.id);
  return true;
}

bool Engine::OpHandler::on_get_sealed(const ObjectId& id) {
  if (!on_get(id)) return false;
  if (session_.waits.contains(id)) engine_.expected_.expect(id, now_);
  return true;
}

bool Engine::OpHandler::on_cancel_get(const ObjectId& id) {
  if (session_.waits.erase(id) > 0) engine_.forget_wait(id, session_.id);
  return true;
}

bool Engine::OpHandler::on_slab_trim(std::uint64_t slab, std::uint64_t used_bytes) {
  auto found = session_.slabs.find(slab);
  if (found == session_.slabs.end() || used_bytes > found->second.size || used_bytes % kAlignmentBytes != 0) {
    return refuse("trim of a slab that this client does not hold, or to a size that it cannot have");
  }
  engine_.cut_off(session_, slab, used_bytes);
  found->second.size = used_bytes;
  return true;
}

bool Engine::OpHandler::on_slab_close(std::uint64_t slab) {
  auto found = session_.slabs.find(slab);
  if (found == session_.slabs.end()) return refuse("close of a slab that this client does not hold");
  engine_.cut_off(session_, slab, 0);
  session_.slabs.erase(found);
  return true;
}

bool Engine::OpHandler::on_cancel_create(std::uint64_t correlation) {
  if (engine_.waiting_.drop(session_.id, correlation)) engine_.freed_ = true;  // what stood behind may fit
  return true;
}

Block* Engine::allocate(std::uint64_t bytes) {
  while (true) {
    if (Block* block = allocator_.allocate(bytes)) return block;
    // Evicting would only help if what is free and what can be evicted suffice together.
    Object* victim = catalog_.eviction_candidate();
    if (victim == nullptr || allocator_.free_bytes() + catalog_.evictable_bytes() < footprint(bytes))
      return nullptr;
    ++counters_.evictions;
    counters_.evicted_bytes += victim->block->size;
    condemn(*victim);
  }
}

bool Engine::try_create(Session& session, std::uint64_t correlation, const CreateRequest& request,
                        wire::TimePoint now) {
  if (catalog_.find(request.id) != nullptr) {
    outbox_.created(session.id, correlation,
                    {CreateStatus::kExists, 0, "object " + request.id.hex() + " exists already"});
    return true;
  }
  Block* block = allocate(request.size_bytes);
  if (block == nullptr) return false;
  Object& object = catalog_.add(
      {request.id, request.owner, block, request.size_bytes, session.pid, (request.flags & kPrimary) != 0},
      true);
  session.creations.emplace(block->offset, &object);
  session.creating_bytes += block->size;
  session.active_at = active_at_ = now;
  counters_.allocated_bytes += block->size;
  ++counters_.creates;
  outbox_.created(session.id, correlation, {CreateStatus::kOk, block->offset, ""});
  return true;
}

void Engine::publish(Session& session, Object& object, wire::TimePoint now) {
  ++counters_.seals;
  if ((!deleted_early_.empty() && deleted_early_.take(object.id, now)) ||
      (!dead_owners_.empty() && dead_owners_.contains(object.owner, now))) {
    object.doomed = true;
  }
  counters_.duplicates += !object.named && !object.doomed;
  pin(session, object);
  catalog_.seal(object);
  auto waiters = waiters_.find(object.id);
  if (waiters == waiters_.end()) return;
  if (object.state != ObjectState::kSealed) {
    answer_lost(object.id);
    return;
  }
  const std::vector<SessionId> waiting = std::move(waiters->second);
  waiters_.erase(waiters);
  for (SessionId id : waiting) {
    Session& reader = *sessions_.at(id);
    reader.waits.erase(object.id);
    pin(reader, object);
    answer(reader, object);
  }
}

void Engine::answer(Session& session, const Object& object) {
  if (session.answers.empty()) with_answers_.push_back(session.id);
  session.answers.push_back({object.id, ObjectStatus::kReady, object.block->offset, object.size_bytes});
}

void Engine::answer_lost(const ObjectId& id) {
  auto waiters = waiters_.find(id);
  if (waiters == waiters_.end()) return;
  for (SessionId waiting : waiters->second) {
    Session& session = *sessions_.at(waiting);
    session.waits.erase(id);
    if (session.answers.empty()) with_answers_.push_back(waiting);
    session.answers.push_back({id, ObjectStatus::kLost, 0, 0});
  }
  waiters_.erase(waiters);
}

void Engine::pin(Session& session, Object& object) {
  Session::Pin& held = session.pins[object.block->offset];
  if (held.count++ > 0) return;
  held.object = &object;
  session.pinned_bytes += object.block->size;
  catalog_.pin(object);
}

void Engine::drop_pin(Session& session, Session::Pin& held) {
  Object& object = *held.object;
  session.pinned_bytes -= object.block->size;
  catalog_.unpin(object);
  if (object.of_evictable.linked) freed_ = true;  // what waits may evict it
  if (Catalog::is_garbage(object)) release_memory(catalog_.erase(object), true);
}

void Engine::remove(const ObjectId& id, wire::TimePoint now) {
  ++counters_.deletes;
  if (Object* object = catalog_.find(id)) {
    condemn(*object);
  } else {
    deleted_early_.insert(id, now);
  }
  answer_lost(id);
}

void Engine::condemn(Object& object) {
  catalog_.condemn(object);
  if (Catalog::is_garbage(object)) release_memory(catalog_.erase(object), true);
}

void Engine::abort(Session& session, Object& object) {
  ++counters_.aborts;
  session.creating_bytes -= object.block->size;
  session.creations.erase(object.block->offset);
  const ObjectId id = object.id;
  const bool was_named = object.named;
  catalog_.abort(object);
  release_memory(catalog_.erase(object), false);
  if (was_named) answer_lost(id);
}

void Engine::forget_wait(const ObjectId& id, SessionId session) {
  auto waiters = waiters_.find(id);
  if (waiters == waiters_.end()) return;
  std::erase(waiters->second, session);
  if (waiters->second.empty()) waiters_.erase(waiters);
}

void Engine::cut_off(Session& session, std::uint64_t slab, std::uint64_t used_bytes) {
  for (Block* block : session.cut_off(allocator_, slab, used_bytes)) {
    counters_.slab_bytes -= block->size;
    release_memory(block, false);
  }
}

void Engine::release_memory(Block* block, bool touched) {
  allocator_.free(block, touched);
  freed_ = true;
}

std::uint64_t Engine::free_owner(const WorkerId& owner, wire::TimePoint now) {
  dead_owners_.insert(owner, now);
  std::vector<Object*> objects;
  if (OwnerAccount* account = catalog_.account(owner)) {
    for (Object* object = account->objects.front(); object != nullptr;
         object = account->objects.next(*object)) {
      objects.push_back(object);
    }
  }
  std::uint64_t freed = 0;
  for (Object* object : objects) {
    if (object->state == ObjectState::kDeleted || object->doomed) continue;
    ++freed;
    const ObjectId id = object->id;
    const bool was_named = object->named;
    condemn(*object);
    if (was_named) answer_lost(id);
  }
  finish(now);
  return freed;
}

std::uint64_t Engine::evict(std::uint64_t bytes, wire::TimePoint now) {
  std::uint64_t evicted = 0;
  while (evicted < bytes) {
    Object* victim = catalog_.eviction_candidate();
    if (victim == nullptr) break;
    evicted += victim->block->size;
    ++counters_.evictions;
    counters_.evicted_bytes += victim->block->size;
    condemn(*victim);
  }
  finish(now);
  return evicted;
}

void Engine::serve_waiting(wire::TimePoint now) {
  if (freed_) {
    freed_ = false;
    while (const PendingCreate* front = waiting_.front()) {
      if (!try_create(*sessions_.at(front->session), front->correlation, front->request, now)) break;
      waiting_.pop();
    }
  }
  if (waiting_.empty()) return;
  auto expired = waiting_.take_expired(now);
  if (!expired.empty()) {
    std::vector<std::pair<WorkerId, const OwnerAccount*>> owners;
    for (const auto& [owner, account] : catalog_.accounts()) owners.emplace_back(owner, &account);
    std::vector<const Session*> sessions;
    for (const auto& [id, session] : sessions_) sessions.push_back(session.get());
    const EngineStatistics now_statistics = statistics();
    for (const PendingCreate& pending : expired) {
      ++counters_.full_errors;
      outbox_.created(
          pending.session, pending.correlation,
          {CreateStatus::kFull, 0, full_message(pending.request, now_statistics, owners, sessions)});
    }
    freed_ = true;  // what stood behind may fit now
    serve_waiting(now);
    return;
  }
  if (now - reclaimed_at_ >= options_.reclaim_interval) ask_to_reclaim(now, false);
}

void Engine::ask_to_reclaim(wire::TimePoint now, bool only_idle) {
  if (!only_idle) reclaimed_at_ = now;
  for (auto& [id, session] : sessions_) {
    if (only_idle &&
        (session->slabs.empty() || session->reclaim_asked || now - session->active_at < options_.slab_idle)) {
      continue;
    }
    if (session->slabs.empty() && session->pins.empty()) continue;
    session->reclaim_asked = true;
    outbox_.reclaim(id);
  }
}

void Engine::tick(wire::TimePoint now) {
  if (now - swept_at_ >= options_.slab_idle) {
    swept_at_ = now;
    ask_to_reclaim(now, true);
  }
  finish(now);
}

std::optional<wire::TimePoint> Engine::next_deadline() const {
  std::optional<wire::TimePoint> next;
  auto consider = [&](wire::TimePoint time) {
    if (!next || time < *next) next = time;
  };
  if (auto deadline = waiting_.next_deadline()) {
    consider(*deadline);
    consider(reclaimed_at_ + options_.reclaim_interval);
  }
  if (auto deadline = expected_.next_deadline()) consider(*deadline);
  if (counters_.slab_bytes > 0) consider(swept_at_ + options_.slab_idle);
  return next;
}

// One that is being created is only slow; its creator's end would be noticed.
void Engine::give_up_missing(wire::TimePoint now) {
  for (const ObjectId& id : expected_.take_overdue(now)) {
    if (!waiters_.contains(id) || catalog_.find(id) != nullptr) continue;
    ++counters_.missing;
    answer_lost(id);
  }
}

void Engine::finish(wire::TimePoint now) {
  give_up_missing(now);
  if (!waiting_.empty()) serve_waiting(now);
  freed_ = false;
  for (SessionId id : with_answers_) {
    auto found = sessions_.find(id);
    if (found == sessions_.end()) continue;
    outbox_.objects(id, found->second->answers);
    found->second->answers.clear();
  }
  with_answers_.clear();
}

EngineStatistics Engine::statistics() const {
  EngineStatistics result = counters_;
  result.objects = catalog_.totals();
  result.capacity_bytes = allocator_.capacity_bytes();
  result.used_bytes = allocator_.used_bytes();
  result.free_bytes = allocator_.free_bytes();
  result.warm_free_bytes = allocator_.warm_free_bytes();
  result.largest_free_bytes = allocator_.largest_free_bytes();
  result.evictable_bytes = catalog_.evictable_bytes();
  result.clients = sessions_.size();
  result.waiting_gets = waiters_.size();
  result.waiting_creates = waiting_.size();
  result.waiting_create_bytes = waiting_.waiting_bytes();
  return result;
}

}  // namespace aktis::plasma
