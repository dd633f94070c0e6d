// A store and clients for tests: a socket in a directory of its own, a client with its own reactor and a
// service thread.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "plasma/client.h"
#include "plasma/store.h"

namespace aktis::plasma::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    char pattern[] = "/tmp/aktis-plasma-test-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  std::string socket() const { return "unix:" + path_ + "/plasma.sock"; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline ObjectId object_id(std::uint32_t number) {
  ObjectId id;
  id.data[0] = 7;
  std::memcpy(id.data + 16, &number, sizeof(number));
  return id;
}

inline WorkerId worker_id(std::uint8_t number) {
  WorkerId id;
  id.data[0] = 9;
  id.data[15] = number;
  return id;
}

inline wire::TimePoint in_ms(int milliseconds) {
  return wire::Clock::now() + std::chrono::milliseconds(milliseconds);
}

inline StoreConfig small_store(const ScratchDirectory& directory, std::uint64_t capacity_bytes = 16u << 20) {
  StoreConfig config;
  config.address = directory.socket();
  config.capacity_bytes = capacity_bytes;
  config.token = "secret";
  config.warmth.reserve_bytes = 1u << 20;
  return config;
}

// Collects what a client hears; wait() blocks until something is there.
class Ears final : public ClientListener {
 public:
  void on_object(const ObjectId& id, ObjectView view) override {
    std::lock_guard lock(mutex_);
    found_[id] = view;
    changed_.notify_all();
  }
  void on_object_lost(const ObjectId& id) override {
    std::lock_guard lock(mutex_);
    lost_.insert(id);
    changed_.notify_all();
  }
  void on_disconnected(const std::string& reason) override {
    std::lock_guard lock(mutex_);
    disconnected_ = reason;
    changed_.notify_all();
  }

  std::optional<ObjectView> found(const ObjectId& id, int timeout_ms = 5000) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return found_.contains(id); });
    auto place = found_.find(id);
    if (place == found_.end()) return std::nullopt;
    const ObjectView view = place->second;
    found_.erase(place);
    return view;
  }
  bool lost(const ObjectId& id, int timeout_ms = 5000) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return lost_.contains(id); });
  }
  bool disconnected(int timeout_ms = 5000) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                             [&] { return !disconnected_.empty(); });
  }

 private:
  struct Less {
    bool operator()(const ObjectId& left, const ObjectId& right) const {
      return std::memcmp(left.data, right.data, sizeof(left.data)) < 0;
    }
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<ObjectId, ObjectView, Less> found_;
  std::set<ObjectId, Less> lost_;
  std::string disconnected_;
};

class TestClient {
 public:
  explicit TestClient(const std::string& address, const std::string& token = "secret") {
    ClientConfig config;
    config.address = address;
    config.hello.role = wire::Role::kWorker;
    config.hello.sender = WorkerId::random();
    config.hello.token = token;
    client_ = std::make_unique<Client>(reactor_, baton_, config, ears_);
    service_ = std::thread([this] {
      while (!stop_.completed()) baton_.serve(stop_, in_ms(1000));
    });
  }
  ~TestClient() {
    client_.reset();
    stop_.complete();
    service_.join();
    baton_.poll_now();  // the connection's last callback
  }

  void connect() { client_->connect(in_ms(5000)); }
  Client& operator*() { return *client_; }
  Client* operator->() { return client_.get(); }
  Ears& ears() { return *ears_; }

  // Creates, fills and seals; keeps the pin.
  ObjectView put(const ObjectId& id, std::size_t size_bytes, std::uint8_t fill, bool primary = true,
                 const WorkerId& owner = worker_id(1)) {
    auto created = client_->create(id, size_bytes, owner, in_ms(5000), primary);
    EXPECT_EQ(created.error, CreateError::kNone) << created.message;
    if (created.error != CreateError::kNone) return {};
    std::memset(created.writable.data(), fill, size_bytes);
    return client_->seal(id);
  }
  std::optional<ObjectView> get(const ObjectId& id, int timeout_ms = 5000) {
    client_->request({&id, 1});
    return ears_->found(id, timeout_ms);
  }

 private:
  wire::Reactor reactor_;
  wire::Baton baton_{reactor_, std::chrono::microseconds(200)};
  std::shared_ptr<Ears> ears_ = std::make_shared<Ears>();
  std::unique_ptr<Client> client_;
  wire::Waiter stop_;
  std::thread service_;
};

inline bool filled(ObjectView view, std::size_t size_bytes, std::uint8_t fill) {
  if (view.data.size() != size_bytes) return false;
  for (std::byte byte : view.data) {
    if (byte != std::byte{fill}) return false;
  }
  return true;
}

}  // namespace aktis::plasma::testing
