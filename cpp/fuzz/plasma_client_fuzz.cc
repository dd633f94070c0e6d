// A client, and a store that says anything at all to it in between what the client's process does. Whatever
// the client hands out lies in the arena, and stays there while it is pinned.
//
// Input: steps, see fuzz/plasma_scripts.h.
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <stdexcept>

#include "fuzz/plasma_scripts.h"
#include "fuzz/socket_directory.h"
#include "plasma/arena.h"
#include "plasma/client.h"
#include "wire/log.h"

namespace {

using namespace aktis;
using namespace aktis::fuzz;
using namespace aktis::plasma;
using namespace std::chrono_literals;

constexpr std::uint64_t kArenaBytes = 1 << 20;

ObjectId object(std::uint8_t number) {
  ObjectId id;
  id.data[0] = number % 8;
  return id;
}

// Faults when it is not mapped.
void look_at(std::span<const std::byte> data) {
  if (data.empty()) return;
  static volatile unsigned sum;
  sum = sum + static_cast<unsigned>(data.front()) + static_cast<unsigned>(data.back());
}

void write_to(std::span<std::byte> data) {
  if (data.empty()) return;
  data.front() = data.back() = std::byte{1};
}

struct Listener final : ClientListener {
  void on_object(const ObjectId& id, ObjectView view) override {
    look_at(view.data);
    pinned.emplace(id, view.data);
  }
  void on_object_lost(const ObjectId&) override {}
  void on_disconnected(const std::string&) override { disconnected = true; }
  std::multimap<ObjectId, std::span<const std::byte>> pinned;
  bool disconnected = false;
};

// The store's end of the connection.
struct Store final : wire::ConnectionDelegate {
  explicit Store(const Arena& arena) : arena(arena) {}
  void on_open(wire::Connection& connection, const wire::Hello&) override {
    say_arena(connection, encode(ArenaInfo{kArenaBytes, 1, kArenaBytes / 4, 1000}));
  }
  void on_frame(wire::Connection&, const wire::Frame&) override {}
  void on_closed(wire::Connection&, const std::string&) override { open = false; }

  void say_arena(wire::Connection& connection, std::span<const std::byte> payload) {
    const int fds[] = {arena.fd()};
    wire::FrameHeader header;
    header.type = static_cast<std::uint16_t>(PlasmaFrame::kArena);
    connection.send_with_fds(header, payload, fds);
  }
  void say(wire::Connection& connection, const AtClient& step) {
    const auto payload = step.payload.empty() ? step.payload : step.payload.subspan(1);
    if (step.what == static_cast<std::uint8_t>(PlasmaFrame::kArena)) return say_arena(connection, payload);
    wire::FrameHeader header;
    header.type = step.what;
    header.correlation = step.payload.empty() ? 0 : static_cast<std::uint64_t>(step.payload[0]);
    connection.send(header, payload);
  }

  const Arena& arena;
  bool open = true;
};

class World {
 public:
  World(const std::string& directory, const Arena& arena) : store_(std::make_shared<Store>(arena)) {
    const std::string address = "unix:" + directory + "/store";
    listener_ = wire::Listener::listen(reactor_, address, [this](wire::UniqueFd fd, const auto&) {
      connection_ = wire::Connection::accept(reactor_, std::move(fd), {}, store_);
    });
    ClientConfig config;
    config.address = address;
    config.slab_max_object_bytes = 16 << 10;
    client_ = std::make_unique<Client>(reactor_, baton_, config, ears_);
    client_->connect(wire::Clock::now() + 10s);
  }
  ~World() {
    for (const auto& [id, data] : ears_->pinned) look_at(data);
    begun_.clear();
    client_.reset();
    listener_->close();
    connection_->close("done");
    for (int i = 0; i < 3; ++i) baton_.poll_now();
  }

  void take(const AtClient& step) {
    if (step.what >= 64) {
      if (store_->open) store_->say(*connection_, step);
    } else if (!ears_->disconnected) {
      const auto byte = [&](std::size_t i) {
        return i < step.payload.size() ? static_cast<std::uint8_t>(step.payload[i]) : std::uint8_t{0};
      };
      try {
        act(static_cast<ClientStep>(step.what % (static_cast<int>(ClientStep::kLast) + 1)), object(byte(0)),
            std::size_t{byte(1)} << 13);
      } catch (const std::logic_error&) {  // of an object with which that cannot be done
      }
    }
    for (int i = 0; i < 2; ++i) baton_.poll_now();
  }

 private:
  void act(ClientStep what, const ObjectId& id, std::size_t size_bytes) {
    switch (what) {
      case ClientStep::kRequest:
        return client_->request({&id, 1});
      case ClientStep::kCancelRequest:
        return client_->cancel_request(id);
      case ClientStep::kCreate:
        begun_.push_back(std::make_unique<Client::Creation>());
        return client_->begin_create(*begun_.back(), id, size_bytes, {}, wire::TimePoint::max());
      case ClientStep::kEndCreate:
      case ClientStep::kGiveUp:
        if (begun_.empty()) return;
        if (what == ClientStep::kEndCreate) write_to(client_->end_create(*begun_.front()).writable);
        return begun_.pop_front();
      case ClientStep::kSeal:
        ears_->pinned.emplace(id, client_->seal(id).data);
        return;
      case ClientStep::kAbort:
        return client_->abort(id);
      case ClientStep::kPin:
        if (const auto view = client_->pin_if_mapped(id)) ears_->on_object(id, *view);
        return;
      case ClientStep::kUnpin:
        if (const auto held = ears_->pinned.find(id); held != ears_->pinned.end()) {
          look_at(held->second);
          ears_->pinned.erase(held);
          client_->unpin(id);
        }
        return;
      case ClientStep::kRemove:
        return client_->remove({&id, 1});
    }
  }

  wire::Reactor reactor_;
  wire::Baton baton_{reactor_, 0us};
  std::shared_ptr<Store> store_;
  std::shared_ptr<wire::Listener> listener_;
  std::shared_ptr<wire::Connection> connection_;
  std::shared_ptr<Listener> ears_ = std::make_shared<Listener>();
  std::unique_ptr<Client> client_;
  std::deque<std::unique_ptr<Client::Creation>> begun_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (wire::set_log_sink([](auto, auto, auto) {}), true);
  static const SocketDirectory directory;
  static const Arena arena(kArenaBytes, HugePages::kNone);
  if (!quiet) return 0;
  World world(directory.path(), arena);
  std::span input = std::as_bytes(std::span(data, size));
  while (const auto step = next_client_step(input)) world.take(*step);
  return 0;
}
