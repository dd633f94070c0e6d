// A process's view of its node's object store.
//
// All methods are thread-safe and never take the GIL. Only those that take a deadline may wait; they must not
// be called on the polling thread from inside a reactor callback. Small and medium objects are cut from a
// slab that the store has leased to this client, so that creating and sealing them makes no round trip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/baton.h"
#include "wire/connection.h"
#include "wire/ids.h"

namespace aktis::plasma {

enum class CreateError : std::uint8_t {
  kNone,
  kTooLarge,      // larger than the whole store
  kFull,          // no room before the deadline; message has a breakdown of who holds what
  kExists,        // an object of this id exists already
  kDisconnected,  // the store is gone
};

struct CreateResult {
  CreateError error = CreateError::kNone;
  std::string message;            // for people; empty on success
  std::span<std::byte> writable;  // valid until seal() or abort()
};

// A sealed object mapped read-only. Stays valid while pinned.
struct ObjectView {
  std::span<const std::byte> data;
};

class ClientListener {
 public:
  virtual ~ClientListener() = default;
  // A requested object is now mapped and pinned once for the request (poller thread, no lock held).
  virtual void on_object(const ObjectId& id, ObjectView view) = 0;
  // A requested object was deleted or its creator died before it was sealed; or see asks_for_sealed.
  virtual void on_object_lost(const ObjectId& id) = 0;
  // The store's connection broke: pinned views stay readable (the mapping is ours), nothing else works.
  virtual void on_disconnected(const std::string& reason) = 0;
};

struct ClientConfig {
  std::string address;  // "unix:/..." of the store
  wire::Hello hello;
  // Every object that this client requests has been sealed: one that the store does not have, nor gets in a
  // moment, is lost. Without it requests wait for objects that do not exist yet.
  bool asks_for_sealed = false;
  std::size_t slab_max_object_bytes = 1u << 20;  // larger objects are asked for one by one
  std::size_t copy_threads_min_bytes = 32u << 20;
  unsigned max_copy_threads = 0;  // of one large copy; 0: as many as the machine has, at most 4
};

class Client {
  struct Impl;

 public:
  // A creation under way, for callers who wait in a way of their own: begin_create() starts it, end_create()
  // takes the result once `waiter` is completed, or when its caller gives up. If it is destroyed before that,
  // the store stops looking for room, and room that it has given goes back.
  class Creation {
   public:
    Creation() = default;
    ~Creation();
    Creation(const Creation&) = delete;
    Creation& operator=(const Creation&) = delete;

    wire::Waiter waiter;
    // When the store must have answered; later than the deadline that it keeps itself.
    wire::TimePoint give_up_at() const;

   private:
    friend class Client;
    std::shared_ptr<Impl> asked_;  // null unless the store was asked and the result is not taken
    std::uint64_t correlation_ = 0;
    std::optional<CreateResult> result_;  // when it needed no answer
    ObjectId id_;
    WorkerId owner_;
    std::size_t size_bytes_ = 0;
    bool primary_ = true;
    wire::TimePoint deadline_;
  };

  Client(wire::Reactor& reactor, wire::Baton& baton, ClientConfig config,
         std::shared_ptr<ClientListener> listener);
  ~Client();

  // Connects and maps the arena; throws std::runtime_error with the reason when the store refuses or does
  // not answer by the deadline. May wait.
  void connect(wire::TimePoint deadline);

  // Ends the connection and lets go of the arena, which stays mapped only for those who hold mapping() or got
  // it from pin(). Other threads may be in the middle of any call: what they wait for fails, and views that
  // they get are empty. A second call does nothing.
  void close();

  // Room for an object of `size_bytes`. `owner` is the worker that owns the reference: when it dies the
  // store is told to drop the object. May wait for space until the deadline. An object that is not
  // `primary` is a copy of one that exists elsewhere: the store may evict it while nobody pins it.
  CreateResult create(const ObjectId& id, std::size_t size_bytes, const WorkerId& owner,
                      wire::TimePoint deadline, bool primary = true);
  void begin_create(Creation& creation, const ObjectId& id, std::size_t size_bytes, const WorkerId& owner,
                    wire::TimePoint deadline, bool primary = true);
  CreateResult end_create(Creation& creation);
  // Like create() but only from the leased slab; nullopt when that would need a message.
  std::optional<CreateResult> try_create(const ObjectId& id, std::size_t size_bytes, const WorkerId& owner);
  // Publishes the object (one-way) and keeps one pin for the caller; returns its read-only view. The store
  // learns of it at once or within about a millisecond: see flush(). Throws std::logic_error when the object
  // is not being created.
  ObjectView seal(const ObjectId& id);
  void abort(const ObjectId& id);

  // The view of an object that this client has mapped, with one more pin; no system call.
  std::optional<ObjectView> pin_if_mapped(const ObjectId& id);
  // One more pin on an object already pinned. What keeps its bytes mapped, whatever becomes of this client;
  // null after close().
  std::shared_ptr<const void> pin(const ObjectId& id);
  void unpin(const ObjectId& id);  // the last one releases it to the store (batched, one-way)

  // Asks for objects; each is answered by on_object (with one pin) or on_object_lost when it is there.
  // One message for all ids that are not mapped yet. Asking twice is harmless.
  void request(std::span<const ObjectId> ids);
  void cancel_request(const ObjectId& id);

  // The owner drops its objects: they are deleted as soon as nobody pins them (batched, one-way).
  void remove(std::span<const ObjectId> ids);

  // How long the store's operator wants a creation to wait for room; zero before connect().
  std::chrono::milliseconds create_timeout() const;

  // Waits until the store has taken in everything that was sent before: true; false when the deadline
  // passed or the store is gone. Objects requested before and already sealed have been delivered then.
  bool sync(wire::TimePoint deadline);

  // Sends what is queued for the store now, for a caller who is about to tell another process of an object.
  void flush();

  // Keeps the mapping (and so every pinned view) readable after this client is closed: for views that
  // outlive it. Null before connect() and after close().
  std::shared_ptr<const void> mapping() const;

  // memcpy without the GIL, by several threads when large. Whoever may meet a close() holds mapping().
  void copy(std::span<std::byte> to, std::span<const std::byte> from) const;

  struct Statistics {
    std::uint64_t slab_creates = 0, round_trip_creates = 0, mapped_objects = 0, pinned_bytes = 0;
  };
  Statistics statistics() const;
  // Objects that somebody in this process has pinned, with their sizes; at most `limit`.
  std::vector<std::pair<ObjectId, std::uint64_t>> in_use(std::size_t limit) const;

 private:
  std::shared_ptr<Impl> impl_;  // shared with the connection and timers
};

}  // namespace aktis::plasma
