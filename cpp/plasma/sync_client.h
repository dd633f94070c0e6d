// A client with a reactor of its own and plain waiting calls, for tools and tests.
//
// A driver or worker uses plasma/client.h on the reactor that it has anyway. Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "plasma/client.h"

namespace aktis::plasma {

enum class GetStatus : std::uint8_t { kReady, kLost, kTimeout, kDisconnected };

struct GetResult {
  GetStatus status = GetStatus::kTimeout;
  ObjectView view;     // kReady: pinned once for the caller
  std::string reason;  // kDisconnected
};

class SyncClient {
 public:
  explicit SyncClient(ClientConfig config);
  ~SyncClient();  // closes; views stay readable as long as the caller keeps client().mapping()

  Client& client() { return *client_; }

  GetResult get(const ObjectId& id, wire::TimePoint deadline);
  // Whether the store has the object sealed now.
  bool contains(const ObjectId& id, wire::TimePoint deadline);

 private:
  class Inbox;

  wire::Reactor reactor_;
  wire::Baton baton_;
  std::shared_ptr<Inbox> inbox_;
  std::unique_ptr<Client> client_;
  wire::Waiter stop_;
  std::thread service_;
};

}  // namespace aktis::plasma
