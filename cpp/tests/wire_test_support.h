// What the tests of cpp/wire share: a directory for sockets, a delegate that records, a pump.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "wire/connection.h"

namespace aktis::wire::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char pattern[] = "/tmp/aktis-test-XXXXXX";
    path_ = mkdtemp(pattern);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string socket(const std::string& name = "s") const { return "unix:" + path_ + "/" + name; }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct ReceivedFrame {
  FrameHeader header;
  std::string payload;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string text_of(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}
inline FrameHeader frame_header(std::uint16_t type, std::uint64_t correlation = 0, std::uint16_t flags = 0) {
  return {0, type, flags, correlation};
}

class Recorder : public ConnectionDelegate {
 public:
  void on_open(Connection& connection, const Hello& hello) override {
    ++opened;
    peer = hello;
    if (when_open) when_open(connection);
  }
  void on_frame(Connection& connection, const Frame& frame) override {
    frames.push_back({frame.header, text_of(frame.payload)});
    if (when_frame) when_frame(connection, frames.back());
  }
  void on_fds(Connection&, std::vector<UniqueFd> received) override {
    for (auto& fd : received) fds.push_back(std::move(fd));
  }
  void on_closed(Connection&, const std::string& reason) override {
    ++closed;
    close_reason = reason;
  }

  int opened = 0;
  int closed = 0;
  std::string close_reason;
  Hello peer;
  std::vector<ReceivedFrame> frames;
  std::vector<UniqueFd> fds;
  std::function<void(Connection&)> when_open;
  std::function<void(Connection&, const ReceivedFrame&)> when_frame;
};

// Polls until the condition holds; false after five seconds.
inline bool pump(Reactor& reactor, const std::function<bool()>& condition) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    reactor.poll(std::min(deadline, Clock::now() + std::chrono::milliseconds(100)));
  }
  return true;
}

inline HandshakePolicy policy_with(const std::string& token = "secret") {
  HandshakePolicy policy;
  policy.self.role = Role::kRaylet;
  policy.self.sender = WorkerId::random();
  policy.self.token = token;
  policy.token = token;
  return policy;
}

inline Hello hello_with(const std::string& token = "secret", Role role = Role::kWorker) {
  Hello hello;
  hello.role = role;
  hello.sender = WorkerId::random();
  hello.token = token;
  hello.pid = 4711;
  return hello;
}

// A listener whose accepted connections share one recorder.
struct Server {
  Server(Reactor& reactor, const std::string& address, HandshakePolicy the_policy = policy_with(),
         ConnectionLimits limits = {})
      : policy(std::move(the_policy)), recorder(std::make_shared<Recorder>()) {
    listener =
        Listener::listen(reactor, address, [this, &reactor, limits](UniqueFd fd, const PeerCredentials&) {
          connections.push_back(Connection::accept(reactor, std::move(fd), policy, recorder, limits));
        });
  }
  ~Server() { listener->close(); }

  HandshakePolicy policy;
  std::shared_ptr<Recorder> recorder;
  std::vector<std::shared_ptr<Connection>> connections;
  std::shared_ptr<Listener> listener;
};

}  // namespace aktis::wire::testing
