// The object store of one node: one thread with a reactor of its own, its socket and its memory.
//
// A thin shell around plasma/engine.h; nothing here takes the GIL. Every public method may be called from
// any thread and waits for the store's thread (microseconds; at most kCallTimeout, then std::runtime_error).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plasma/arena.h"
#include "plasma/engine.h"
#include "plasma/warmth.h"
#include "wire/ids.h"

namespace aktis::plasma {

inline constexpr std::chrono::seconds kCallTimeout{10};

struct StoreConfig {
  std::string address;  // "unix:/path"
  std::uint64_t capacity_bytes = 1u << 30;
  HugePages huge_pages = HugePages::kNone;
  WarmthOptions warmth;
  EngineOptions engine;
  std::string token;  // of the cluster; empty: none asked for
  NodeId node;
  WorkerId self;                             // nil: made up
  std::vector<std::uint32_t> allowed_uids;   // users whose processes may connect beside the store's own
  std::uint32_t create_timeout_ms = 10'000;  // told to clients: how long a creation waits unless they say
  std::size_t max_clients = 4096;
  // Descriptors of a store that ran before; both or none. The store takes them over.
  int arena_fd = -1;
  int table_fd = -1;
};

struct StoreStatistics {
  EngineStatistics engine;
  std::uint64_t resident_bytes = 0;  // memory that the arena takes now
  std::uint64_t epoch = 0;
  std::uint64_t refused_connections = 0;  // before or in the handshake
  std::uint64_t dropped_slots = 0;        // of the table it resumed from
  std::uint64_t resumed_objects = 0;
};

struct ObjectInfo {
  ObjectId id;
  WorkerId owner;
  std::uint64_t size_bytes = 0;
  std::uint64_t offset = 0;
  ObjectState state = ObjectState::kFree;
  std::uint32_t pins = 0;
  std::uint32_t creator_pid = 0;
  bool primary = true;
  std::int64_t created_unix_ns = 0;
};

class Store {
 public:
  // Makes or takes over the memory; throws std::system_error or std::runtime_error with the reason.
  explicit Store(StoreConfig config);
  ~Store();  // stops

  void start();  // listens and serves; throws std::system_error that names the address
  void stop();   // closes every connection, removes the socket; idempotent

  StoreStatistics statistics();
  std::vector<ObjectInfo> list_objects(std::size_t limit);
  std::uint64_t free_owner(const WorkerId& owner);
  std::uint64_t evict(std::uint64_t bytes);

  const std::string& address() const;
  // For whoever keeps them while the store restarts; they stay owned by the store.
  int arena_fd() const;
  int table_fd() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aktis::plasma
