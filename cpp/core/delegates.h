// The core's ears: who is told of what happens on its connections. Private to cpp/core.
#pragma once

#include <string>

#include "core/core.h"

namespace aktis::core {

// Connections to and from other workers and drivers.
class Core::PeerDelegate final : public wire::ConnectionDelegate {
 public:
  explicit PeerDelegate(Core& core) : core_(core) {}
  void on_open(wire::Connection& connection, const wire::Hello& hello) override {
    core_.on_peer_open(connection, hello.sender);
  }
  void on_frame(wire::Connection& connection, const wire::Frame& frame) override {
    core_.on_peer_frame(connection, frame);
  }
  void on_closed(wire::Connection& connection, const std::string& reason) override {
    core_.on_peer_closed(connection, reason);
  }

 private:
  Core& core_;
};

// The one connection to this node's raylet.
class Core::RayletDelegate final : public wire::ConnectionDelegate {
 public:
  explicit RayletDelegate(Core& core) : core_(core) {}
  void on_open(wire::Connection&, const wire::Hello&) override {
    open_ = true;
    opened_.complete();
  }
  void on_frame(wire::Connection&, const wire::Frame& frame) override { core_.on_control(frame); }
  void on_closed(wire::Connection&, const std::string& reason) override {
    reason_ = reason;
    const bool was_open = open_;
    open_ = false;
    opened_.complete();
    if (was_open) core_.on_raylet_closed(reason);
  }
  wire::Waiter& opened() { return opened_; }
  // Why it is not open; empty when it is. Read by the thread that waited for opened().
  std::string problem() const {
    if (open_) return {};
    return reason_.empty() ? "no answer in time" : reason_;
  }

 private:
  Core& core_;
  wire::Waiter opened_;
  std::atomic<bool> open_{false};
  std::string reason_;
};

class Core::StoreListener final : public plasma::ClientListener {
 public:
  explicit StoreListener(Core& core) : core_(core) {}
  void on_object(const ObjectId& id, plasma::ObjectView view) override { core_.on_plasma_object(id, view); }
  void on_object_lost(const ObjectId& id) override { core_.on_plasma_lost(id); }
  void on_disconnected(const std::string& reason) override {
    if (core_.closed()) return;
    core_.on_plasma_gone();
    core_.events_.push({.kind = EventKind::kPlasmaLost, .text = reason});
  }

 private:
  Core& core_;
};

}  // namespace aktis::core
