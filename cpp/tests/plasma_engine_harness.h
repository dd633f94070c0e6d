// An engine without sockets, for tests and fuzzing: messages go in as payloads, answers are collected.
#pragma once

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plasma/engine.h"

namespace aktis::plasma::testing {

class RecordingOutbox final : public Outbox {
 public:
  void created(SessionId session, std::uint64_t correlation, const CreateReply& reply) override {
    creates[session].emplace_back(correlation, reply);
  }
  void slab(SessionId session, std::uint64_t, const SlabGrant& grant) override {
    grants[session].push_back(grant);
  }
  void objects(SessionId session, std::span<const ObjectReply> replies) override {
    auto& heard = found[session];
    heard.insert(heard.end(), replies.begin(), replies.end());
  }
  void reclaim(SessionId session) override { ++reclaims[session]; }

  std::map<SessionId, std::vector<std::pair<std::uint64_t, CreateReply>>> creates;
  std::map<SessionId, std::vector<SlabGrant>> grants;
  std::map<SessionId, std::vector<ObjectReply>> found;
  std::map<SessionId, int> reclaims;
};

inline ObjectId numbered_object(std::uint32_t number) {
  ObjectId id;
  id.data[0] = 7;
  std::memcpy(id.data + 16, &number, sizeof(number));
  return id;
}

inline WorkerId numbered_worker(std::uint8_t number) {
  WorkerId id;
  id.data[0] = 9;
  id.data[15] = number;
  return id;
}

inline EngineOptions test_options() {
  EngineOptions options;
  options.slabs = {4096, 64 << 10, 8};
  options.max_waits_per_client = 16;
  options.max_pending_creates = 8;
  options.wall_clock = [] { return std::int64_t{1}; };
  return options;
}

class EngineHarness {
 public:
  explicit EngineHarness(std::uint64_t capacity_bytes = 1 << 20, EngineOptions options = test_options())
      : allocator(capacity_bytes),
        table(capacity_bytes),
        engine(allocator, table, outbox, std::move(options)) {}

  using Violation = std::optional<std::string>;
  SessionId open() { return engine.open_session(100 + static_cast<std::uint32_t>(++sessions), now); }
  Violation send(SessionId session, PlasmaFrame type, std::span<const std::byte> payload,
                 std::uint64_t correlation = 0) {
    return engine.handle(session, static_cast<std::uint16_t>(type), correlation, payload, now);
  }
  Violation ops(SessionId session, const OpWriter& batch) {
    return send(session, PlasmaFrame::kOps, batch.view());
  }
  // The answer when there is one at once.
  std::optional<CreateReply> create(SessionId session, std::uint32_t number, std::uint64_t size_bytes,
                                    std::uint32_t timeout_ms = 1000, bool primary = true,
                                    const WorkerId& owner = numbered_worker(1)) {
    const std::size_t before = outbox.creates[session].size();
    send(session, PlasmaFrame::kCreate,
         encode(CreateRequest{numbered_object(number), owner, size_bytes, timeout_ms,
                              static_cast<std::uint8_t>(primary ? kPrimary : 0)}),
         ++correlation);
    if (outbox.creates[session].size() == before) return std::nullopt;
    return outbox.creates[session].back().second;
  }
  SlabGrant lease(SessionId session, std::uint64_t min_bytes = 0) {
    send(session, PlasmaFrame::kSlabRequest, encode(SlabRequest{min_bytes}));
    return outbox.grants[session].back();
  }
  Violation seal(SessionId session, std::uint32_t number, std::uint64_t offset, std::uint64_t size_bytes,
                 bool primary = true, const WorkerId& owner = numbered_worker(1)) {
    OpWriter batch;
    batch.seal({numbered_object(number), owner, offset, size_bytes,
                static_cast<std::uint8_t>(primary ? kPrimary : 0)});
    return ops(session, batch);
  }
  // Creates and seals; returns the offset.
  std::uint64_t put(SessionId session, std::uint32_t number, std::uint64_t size_bytes, bool primary = true) {
    const auto reply = create(session, number, size_bytes, 1000, primary);
    if (!reply || reply->status != CreateStatus::kOk) return ~std::uint64_t{0};
    seal(session, number, reply->offset, size_bytes, primary);
    return reply->offset;
  }
  Violation get(SessionId session, std::uint32_t number) {
    OpWriter batch;
    batch.get(numbered_object(number));
    return ops(session, batch);
  }
  Violation release(SessionId session, std::uint64_t offset, std::uint32_t count = 1) {
    OpWriter batch;
    batch.release(offset, count);
    return ops(session, batch);
  }
  Violation remove(SessionId session, std::uint32_t number) {
    OpWriter batch;
    batch.remove(numbered_object(number));
    return ops(session, batch);
  }
  void advance(int milliseconds) {
    now += std::chrono::milliseconds(milliseconds);
    engine.tick(now);
  }

  wire::TimePoint now = wire::TimePoint{} + std::chrono::hours(1);
  std::uint64_t sessions = 0;
  std::uint64_t correlation = 0;
  RecordingOutbox outbox;
  Allocator allocator;
  ObjectTable table;
  Engine engine;
};

}  // namespace aktis::plasma::testing
