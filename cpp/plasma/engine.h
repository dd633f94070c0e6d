// The store without sockets, threads or clocks: what happens to objects and clients, message by message.
//
// The shell (plasma/store.h) decodes nothing itself: it hands in payloads and the time, and sends what the
// outbox is told. A client's every claim is checked here; a false one is a violation, after which the shell
// closes the connection with the reason. Belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "plasma/admission.h"
#include "plasma/allocator.h"
#include "plasma/catalog.h"
#include "plasma/expected_objects.h"
#include "plasma/object_table.h"
#include "plasma/protocol.h"
#include "plasma/recent_set.h"
#include "plasma/session.h"

namespace aktis::plasma {

// Where the engine's messages go. Called in the middle of engine calls: must not call back.
class Outbox {
 public:
  virtual ~Outbox() = default;
  virtual void created(SessionId session, std::uint64_t correlation, const CreateReply& reply) = 0;
  virtual void slab(SessionId session, std::uint64_t correlation, const SlabGrant& grant) = 0;
  virtual void objects(SessionId session, std::span<const ObjectReply> replies) = 0;
  virtual void reclaim(SessionId session) = 0;
};

struct EngineOptions {
  SlabPolicy slabs;
  std::size_t max_waits_per_client = 1'000'000;  // ids asked for and not there yet
  std::size_t max_pending_creates = 4096;
  std::chrono::milliseconds slab_idle{1000};       // unused for so long: asked back
  std::chrono::milliseconds reclaim_interval{50};  // at most so often while creations wait for room
  std::chrono::milliseconds tombstone_lifetime{5000};
  std::chrono::milliseconds seal_grace{1000};  // how late the seal of an object may be that must be there
  Catalog::WallClock wall_clock;               // empty: the system's
};

struct EngineStatistics {
  Catalog::Totals objects;
  std::uint64_t capacity_bytes = 0, used_bytes = 0, free_bytes = 0, warm_free_bytes = 0,
                largest_free_bytes = 0;
  std::uint64_t slab_bytes = 0;
  std::uint64_t evictable_bytes = 0;
  std::uint64_t clients = 0, waiting_gets = 0, waiting_creates = 0, waiting_create_bytes = 0;
  std::uint64_t creates = 0, seals = 0, gets = 0, releases = 0, deletes = 0, aborts = 0, slabs = 0;
  std::uint64_t evictions = 0, evicted_bytes = 0;
  std::uint64_t full_errors = 0, violations = 0, disconnects = 0, duplicates = 0;
  std::uint64_t missing = 0;          // objects that must have been there and were not
  std::uint64_t allocated_bytes = 0;  // ever, by creations and leases
};

class Engine final {
 public:
  Engine(Allocator& allocator, ObjectTable& table, Outbox& outbox, EngineOptions options);
  ~Engine();

  // For a store that resumes: takes over every valid sealed object of the table. Returns how many slots
  // were dropped (torn, overlapping, or objects that nobody can finish).
  std::uint64_t resume();

  SessionId open_session(std::uint32_t pid, wire::TimePoint now);
  void close_session(SessionId session, wire::TimePoint now);

  // One frame from a client; a text is a violation.
  std::optional<std::string> handle(SessionId session, std::uint16_t frame_type, std::uint64_t correlation,
                                    std::span<const std::byte> payload, wire::TimePoint now);

  // Deletes every object of an owner that died, and those that still arrive for it; returns how many.
  std::uint64_t free_owner(const WorkerId& owner, wire::TimePoint now);
  // Evicts unreferenced objects, least recently used first, until so many bytes are free or none is left.
  std::uint64_t evict(std::uint64_t bytes, wire::TimePoint now);

  // Deadlines and periodic work: call when next_deadline() has come.
  void tick(wire::TimePoint now);
  std::optional<wire::TimePoint> next_deadline() const;

  EngineStatistics statistics() const;
  std::vector<const Object*> list(std::size_t limit) const { return catalog_.list(limit); }
  Allocator& allocator() { return allocator_; }
  std::uint64_t allocated_bytes() const { return counters_.allocated_bytes; }  // ever
  std::uint64_t max_slab_bytes() const { return options_.slabs.max_bytes; }
  wire::TimePoint active_at() const { return active_at_; }  // last allocation

  const char* validate() const;  // empty when all invariants hold; for tests

 private:
  class OpHandler;
  friend class OpHandler;

  std::optional<std::string> handle_create(Session& session, std::uint64_t correlation,
                                           std::span<const std::byte> payload, wire::TimePoint now);
  std::optional<std::string> handle_slab(Session& session, std::uint64_t correlation,
                                         std::span<const std::byte> payload, wire::TimePoint now);
  std::optional<std::string> handle_ops(Session& session, std::span<const std::byte> payload,
                                        wire::TimePoint now);

  Block* allocate(std::uint64_t bytes);  // evicting what may be evicted
  bool try_create(Session& session, std::uint64_t correlation, const CreateRequest& request,
                  wire::TimePoint now);
  void publish(Session& session, Object& object, wire::TimePoint now);
  void answer(Session& session, const Object& object);
  void answer_lost(const ObjectId& id);
  void pin(Session& session, Object& object);
  void drop_pin(Session& session, Session::Pin& pin);
  void remove(const ObjectId& id, wire::TimePoint now);
  void condemn(Object& object);
  void abort(Session& session, Object& object);
  void forget_wait(const ObjectId& id, SessionId session);
  void give_up_missing(wire::TimePoint now);
  void cut_off(Session& session, std::uint64_t slab, std::uint64_t used_bytes);
  void release_memory(Block* block, bool touched);
  void serve_waiting(wire::TimePoint now);
  void ask_to_reclaim(wire::TimePoint now, bool only_idle);
  void finish(wire::TimePoint now);  // end of every public call: waiting creations, then answers

  Allocator& allocator_;
  ObjectTable& table_;
  Outbox& outbox_;
  const EngineOptions options_;
  Catalog catalog_;
  AdmissionQueue waiting_;
  std::unordered_map<SessionId, std::unique_ptr<Session>> sessions_;
  std::unordered_map<ObjectId, std::vector<SessionId>, IdHash> waiters_;
  std::vector<SessionId> with_answers_;
  ExpectedObjects expected_;           // of those in waiters_
  RecentSet<ObjectId> deleted_early_;  // deleted before their seal arrived
  RecentSet<WorkerId> dead_owners_;
  SessionId last_session_ = 0;
  std::uint64_t last_slab_ = 0;
  bool freed_ = false;  // since creations that wait were last tried
  wire::TimePoint active_at_{};
  wire::TimePoint reclaimed_at_{};
  wire::TimePoint swept_at_{};
  EngineStatistics counters_;
};

// Who holds what, for ObjectStoreFull: totals, then the largest owners and clients. At most about 2 KiB.
std::string too_large_message(const CreateRequest& request, std::uint64_t capacity_bytes);
std::string full_message(const CreateRequest& request, const EngineStatistics& statistics,
                         const std::vector<std::pair<WorkerId, const OwnerAccount*>>& owners,
                         const std::vector<const Session*>& sessions);

}  // namespace aktis::plasma
