#include "plasma/store.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>

#include "plasma/warmer.h"
#include "wire/connection.h"
#include "wire/log.h"

namespace aktis::plasma {
namespace {

constexpr std::size_t kMaxClientFrameBytes = 4u << 20;
constexpr std::size_t kMaxQueuedBytes = 64u << 20;  // answers that a client does not read
constexpr std::size_t kRepliesPerFrame = 20'000;
constexpr auto kMaxPollWait = std::chrono::seconds(10);
constexpr auto kDiscardInterval = std::chrono::milliseconds(20);

wire::FrameHeader header_of(PlasmaFrame type, std::uint64_t correlation = 0) {
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(type);
  header.correlation = correlation;
  return header;
}

EngineOptions fitted(EngineOptions options, std::uint64_t capacity_bytes) {
  // A small store must not be leased out to its first clients.
  const std::uint64_t share = std::max<std::uint64_t>(capacity_bytes / 16 / 4096 * 4096, 4096);
  options.slabs.max_bytes = std::min(options.slabs.max_bytes, share);
  options.slabs.min_bytes = std::min(options.slabs.min_bytes, share);
  return options;
}

std::unique_ptr<Arena> make_arena(const StoreConfig& config) {
  if ((config.arena_fd < 0) != (config.table_fd < 0)) {
    throw std::runtime_error("object store: the arena and its table must be handed over together");
  }
  if (config.arena_fd >= 0) return std::make_unique<Arena>(wire::UniqueFd(config.arena_fd));
  return std::make_unique<Arena>(config.capacity_bytes, config.huge_pages);
}

std::unique_ptr<ObjectTable> make_table(const StoreConfig& config, const Arena& arena) {
  if (config.table_fd < 0) return std::make_unique<ObjectTable>(arena.size_bytes());
  auto table = std::make_unique<ObjectTable>(wire::UniqueFd(config.table_fd), true);
  if (table->header().arena_bytes != arena.size_bytes()) {
    throw std::runtime_error("object store: the table is of another arena");
  }
  return table;
}

}  // namespace

struct Store::Impl final : Outbox {
  // One client's connection; lives until on_closed.
  struct Peer final : wire::ConnectionDelegate {
    explicit Peer(Impl& owner) : store(owner) {}
    void on_open(wire::Connection& connection, const wire::Hello& hello) override {
      store.on_open(*this, connection, hello);
    }
    void on_frame(wire::Connection&, const wire::Frame& frame) override { store.on_frame(*this, frame); }
    void on_closed(wire::Connection&, const std::string& reason) override { store.on_closed(*this, reason); }
    Impl& store;
    SessionId session = 0;
    std::shared_ptr<wire::Connection> connection;
  };

  explicit Impl(StoreConfig given)
      : config(std::move(given)),
        arena(make_arena(config)),
        table(make_table(config, *arena)),
        allocator(arena->size_bytes()),
        warmth(config.warmth),
        engine(allocator, *table, *this, fitted(config.engine, arena->size_bytes())) {
    if (config.self.is_nil()) config.self = WorkerId::random();
    config.allowed_uids.push_back(::geteuid());
    if (config.table_fd >= 0) {
      table->next_epoch();
      dropped_slots = engine.resume();
      resumed_objects = engine.statistics().objects.sealed;
    }
  }

  // ---- the store's thread ----

  void run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "plasma-store");
    while (!stopping.load(std::memory_order_acquire)) {
      reactor->poll(housekeeping());
      close_marked();
    }
    listener->close();
    for (auto& [session, peer] : peers) peer->connection->close("the object store is stopping");
    for (auto& peer : greeting) peer->connection->close("the object store is stopping");
    // Closing takes one round; the bound is only for a kernel that misbehaves.
    for (int round = 0; round < 100 && !(peers.empty() && greeting.empty()); ++round) {
      reactor->poll(wire::Clock::now() + std::chrono::milliseconds(10));
    }
  }

  // Whatever is due; returns when to look again.
  wire::TimePoint housekeeping() {
    const auto now = wire::Clock::now();
    auto wake = now + kMaxPollWait;
    if (auto due = engine.next_deadline(); due && *due <= now) engine.tick(now);
    if (auto due = engine.next_deadline()) wake = std::min(wake, *due);
    keep_warm(now);
    if (auto due = warmth.next_deadline(allocator))
      wake = std::min(wake, std::max(*due, now + kDiscardInterval));
    return wake;
  }

  void keep_warm(wire::TimePoint now) {
    warmth.observe(engine.allocated_bytes(), engine.active_at(), now);
    if (!out_of_memory) {
      if (auto range = warmth.to_populate(allocator, now)) warmer->populate(*range);
    }
    if (now >= discard_at) {
      if (auto range = warmth.to_discard(allocator, now)) {
        arena->discard(range->offset, range->length);
        discard_at = now + kDiscardInterval;
        out_of_memory = false;
      }
    }
  }

  void on_populated(PageRange range, bool populated) {
    if (populated) {
      allocator.note_warm(range.offset, range.length);
      return;
    }
    out_of_memory = true;  // until pages are given back; clients' own first writes decide from now on
    wire::log(wire::LogLevel::kWarning, "plasma", "no memory to populate the arena ahead of demand");
  }

  void on_accept(wire::UniqueFd fd, const wire::PeerCredentials& credentials) {
    const bool allowed = credentials.known &&
                         std::find(config.allowed_uids.begin(), config.allowed_uids.end(), credentials.uid) !=
                             config.allowed_uids.end();
    if (!allowed || peers.size() + greeting.size() >= config.max_clients) {
      ++refused_connections;
      wire::log(wire::LogLevel::kWarning, "plasma",
                "refused process " + std::to_string(credentials.pid) + " of user " +
                    std::to_string(credentials.uid) +
                    (allowed ? ": too many clients (" + std::to_string(config.max_clients) + ")"
                             : std::string(": this user may not use the object store")));
      return;
    }
    wire::HandshakePolicy policy;
    policy.self.role = wire::Role::kPlasma;
    policy.self.sender = config.self;
    policy.self.node = config.node;
    policy.self.pid = static_cast<std::uint32_t>(::getpid());
    policy.token = config.token;
    wire::ConnectionLimits limits;
    limits.max_payload_bytes = kMaxClientFrameBytes;
    limits.max_queued_bytes = kMaxQueuedBytes;
    auto peer = std::make_shared<Peer>(*this);
    greeting.push_back(peer);
    peer->connection = wire::Connection::accept(*reactor, std::move(fd), policy, peer, limits);
  }

  void on_open(Peer& peer, wire::Connection& connection, const wire::Hello& hello) {
    const auto now = wire::Clock::now();
    const auto& credentials = connection.credentials();
    peer.session =
        engine.open_session(credentials.known ? static_cast<std::uint32_t>(credentials.pid) : hello.pid, now);
    auto place =
        std::find_if(greeting.begin(), greeting.end(), [&](const auto& one) { return one.get() == &peer; });
    peers.emplace(peer.session, *place);
    greeting.erase(place);
    const ArenaInfo info{arena->size_bytes(), table->header().epoch, engine.max_slab_bytes(),
                         config.create_timeout_ms};
    const int fds[] = {arena->fd()};
    if (connection.send_with_fds(header_of(PlasmaFrame::kArena), encode(info), fds) !=
        wire::SendResult::kSent) {
      connection.close("could not hand over the arena");
    }
  }

  void on_frame(Peer& peer, const wire::Frame& frame) {
    const auto now = wire::Clock::now();
    auto violation =
        engine.handle(peer.session, frame.header.type, frame.header.correlation, frame.payload, now);
    if (violation) {
      wire::log(wire::LogLevel::kWarning, "plasma",
                "protocol error of " + describe(peer) + ": " + *violation);
      peer.connection->close("protocol error: " + *violation);
    }
  }

  void on_closed(Peer& peer, const std::string& reason) {
    if (peer.session == 0) {
      ++refused_connections;
      wire::log(wire::LogLevel::kWarning, "plasma", "handshake failed: " + reason);
      std::erase_if(greeting, [&](const auto& one) { return one.get() == &peer; });
      return;
    }
    if (reason != "closed by peer")
      wire::log(wire::LogLevel::kInfo, "plasma", describe(peer) + ": " + reason);
    engine.close_session(peer.session, wire::Clock::now());
    peers.erase(peer.session);
  }

  std::string describe(const Peer& peer) const {
    const auto& credentials = peer.connection->credentials();
    return "client " + std::to_string(peer.session) + " (process " + std::to_string(credentials.pid) + ")";
  }

  // ---- Outbox: inside of engine calls, on the store's thread ----

  void send(SessionId session, const wire::FrameHeader& header, std::span<const std::byte> payload) {
    auto found = peers.find(session);
    if (found == peers.end()) return;
    // Everything that one round brings goes out in one write before the next wait.
    const auto result = found->second->connection->send(header, payload, wire::Flush::kLater);
    if (result == wire::SendResult::kQueueFull) marked.push_back(session);
  }

  void created(SessionId session, std::uint64_t correlation, const CreateReply& reply) override {
    send(session, header_of(PlasmaFrame::kCreated, correlation), encode(reply));
  }
  void slab(SessionId session, std::uint64_t correlation, const SlabGrant& grant) override {
    send(session, header_of(PlasmaFrame::kSlabGrant, correlation), encode(grant));
  }
  void objects(SessionId session, std::span<const ObjectReply> replies) override {
    while (!replies.empty()) {
      const auto part = replies.first(std::min(replies.size(), kRepliesPerFrame));
      send(session, header_of(PlasmaFrame::kObjects), encode(part));
      replies = replies.subspan(part.size());
    }
  }
  void reclaim(SessionId session) override { send(session, header_of(PlasmaFrame::kReclaim), {}); }

  // Not inside of an engine call: closing may come back with on_closed at once.
  void close_marked() {
    for (SessionId session : std::exchange(marked, {})) {
      if (auto found = peers.find(session); found != peers.end()) {
        auto connection = found->second->connection;
        connection->close("does not read the answers it asked for");
      }
    }
  }

  // ---- other threads ----

  // Runs `work` on the store's thread and waits for its result.
  template <typename Work>
  auto call(Work work) -> decltype(work()) {
    using Result = decltype(work());
    std::lock_guard lock(lifecycle);
    if (!thread.joinable()) return work();  // not started, or stopped: nobody else touches the state
    auto promise = std::make_shared<std::promise<Result>>();
    auto result = promise->get_future();
    reactor->post([promise, work] {
      try {
        promise->set_value(work());
      } catch (...) {
        promise->set_exception(std::current_exception());
      }
    });
    if (result.wait_for(kCallTimeout) != std::future_status::ready) {
      throw std::runtime_error("the object store's thread did not answer within 10 s");
    }
    return result.get();
  }

  StoreConfig config;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<ObjectTable> table;
  Allocator allocator;
  Warmth warmth;
  Engine engine;
  std::unique_ptr<wire::Reactor> reactor;
  std::unique_ptr<Warmer> warmer;
  std::shared_ptr<wire::Listener> listener;
  std::unordered_map<SessionId, std::shared_ptr<Peer>> peers;
  std::vector<std::shared_ptr<Peer>> greeting;  // before the handshake is done
  std::vector<SessionId> marked;                // to be closed after the engine call
  wire::TimePoint discard_at{};
  bool out_of_memory = false;
  std::uint64_t refused_connections = 0;
  std::uint64_t dropped_slots = 0;
  std::uint64_t resumed_objects = 0;

  std::mutex lifecycle;
  std::thread thread;  // guarded by lifecycle
  std::atomic<bool> stopping{false};
};

Store::Store(StoreConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}

Store::~Store() { stop(); }

void Store::start() {
  std::lock_guard lock(impl_->lifecycle);
  if (impl_->thread.joinable()) throw std::logic_error("object store: already started");
  Impl* impl = impl_.get();
  impl->reactor = std::make_unique<wire::Reactor>();
  impl->listener =
      wire::Listener::listen(*impl->reactor, impl->config.address,
                             [impl](wire::UniqueFd fd, const wire::PeerCredentials& credentials) {
                               impl->on_accept(std::move(fd), credentials);
                             });
  wire::Reactor* reactor = impl->reactor.get();
  impl->warmer = std::make_unique<Warmer>(*impl->arena, [impl, reactor](PageRange range, bool populated) {
    reactor->post([impl, range, populated] { impl->on_populated(range, populated); });
  });
  impl->stopping = false;
  impl->thread = std::thread([impl] { impl->run(); });
}

void Store::stop() {
  std::lock_guard lock(impl_->lifecycle);
  if (!impl_->thread.joinable()) return;
  impl_->stopping.store(true, std::memory_order_release);
  impl_->reactor->interrupt();
  impl_->thread.join();
  impl_->thread = std::thread();
  impl_->warmer.reset();  // posts to the reactor until it has ended
  impl_->listener.reset();
  impl_->reactor.reset();
}

StoreStatistics Store::statistics() {
  return impl_->call([impl = impl_.get()] {
    StoreStatistics result;
    result.engine = impl->engine.statistics();
    result.resident_bytes = impl->arena->resident_bytes();
    result.epoch = impl->table->header().epoch;
    result.refused_connections = impl->refused_connections;
    result.dropped_slots = impl->dropped_slots;
    result.resumed_objects = impl->resumed_objects;
    return result;
  });
}

std::vector<ObjectInfo> Store::list_objects(std::size_t limit) {
  return impl_->call([impl = impl_.get(), limit] {
    std::vector<ObjectInfo> result;
    for (const Object* object : impl->engine.list(limit)) {
      result.push_back({object->id, object->owner, object->size_bytes, object->block->offset, object->state,
                        object->pins, object->creator_pid, object->primary, object->created_unix_ns});
    }
    return result;
  });
}

std::uint64_t Store::free_owner(const WorkerId& owner) {
  return impl_->call(
      [impl = impl_.get(), owner] { return impl->engine.free_owner(owner, wire::Clock::now()); });
}

std::uint64_t Store::evict(std::uint64_t bytes) {
  return impl_->call([impl = impl_.get(), bytes] { return impl->engine.evict(bytes, wire::Clock::now()); });
}

const std::string& Store::address() const { return impl_->config.address; }
int Store::arena_fd() const { return impl_->arena->fd(); }
int Store::table_fd() const { return impl_->table->fd(); }

}  // namespace aktis::plasma
