// Frames between a store and its clients, after wire's handshake.
//
// The server speaks first: kArena, with the arena's descriptor attached. From then on a client sends
// kOps frames (a batch of one-way operations, applied in order, never answered as such), kCreate and
// kSlabRequest (answered under the same correlation). Objects asked for arrive in kObjects frames as they
// are sealed, in any order. Places in the arena are byte offsets; a pin is counted per offset, not per id,
// because an id may be created anew while a reader still holds the deleted bytes.
//
// Every decoder is total: false or nullopt for anything malformed, and no allocation that the payload's
// own size does not justify.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/codec.h"
#include "wire/ids.h"

namespace aktis::plasma {

enum class PlasmaFrame : std::uint16_t {
  kArena = 64,        // store -> client, with descriptors
  kOps = 65,          // client -> store
  kCreate = 66,       // client -> store
  kCreated = 67,      // store -> client
  kSlabRequest = 68,  // client -> store
  kSlabGrant = 69,    // store -> client
  kObjects = 70,      // store -> client
  kReclaim = 71,      // store -> client: give back slabs and cached pins that are not in use
};

struct ArenaInfo {
  std::uint64_t arena_bytes = 0;
  std::uint64_t epoch = 0;              // of the object table: grows with every restart of the store
  std::uint64_t slab_max_bytes = 0;     // the largest slab that the store grants
  std::uint32_t create_timeout_ms = 0;  // how long a creation should wait for room unless its caller says
};

enum ObjectFlags : std::uint8_t {
  kPrimary = 1,  // kept until its owner deletes it; without it the object may be evicted
};

// One-way operations.
enum class Op : std::uint8_t {
  kSeal = 1,
  kRelease = 2,
  kDelete = 3,
  kAbort = 4,
  kGet = 5,
  kCancelGet = 6,
  kSlabTrim = 7,
  kSlabClose = 8,
  kCancelCreate = 9,
  kGetSealed = 10,  // as kGet, of an object that has been sealed: lost when it does not come in a moment
};

struct SealOp {
  ObjectId id;
  WorkerId owner;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::uint8_t flags = kPrimary;
};

// Receives the operations of one kOps frame in order; returning false stops the decoding.
class OpVisitor {
 public:
  virtual ~OpVisitor() = default;
  // Publishes an object from a creation or a slab of this client, and pins it once for the client.
  virtual bool on_seal(const SealOp& op) = 0;
  virtual bool on_release(std::uint64_t offset, std::uint32_t count) = 0;
  virtual bool on_delete(const ObjectId& id) = 0;
  virtual bool on_abort(std::uint64_t offset) = 0;  // of a creation, not of an object in a slab
  virtual bool on_get(const ObjectId& id) = 0;
  virtual bool on_get_sealed(const ObjectId& id) = 0;
  virtual bool on_cancel_get(const ObjectId& id) = 0;
  virtual bool on_slab_trim(std::uint64_t slab, std::uint64_t used_bytes) = 0;
  // No object of the slab is being written any more: what is not sealed is free again.
  virtual bool on_slab_close(std::uint64_t slab) = 0;
  // Nobody waits for that kCreate any more. One that still waits for room is not answered; one that was
  // answered already is not touched, so that its place is given back by an abort.
  virtual bool on_cancel_create(std::uint64_t correlation) = 0;
};

// kMalformed: the bytes are not a batch; kRefused: the visitor said so.
enum class OpsResult { kOk, kMalformed, kRefused };
OpsResult decode_ops(std::span<const std::byte> payload, OpVisitor& visitor);

// Appends operations to a batch.
class OpWriter {
 public:
  void seal(const SealOp& op);
  void release(std::uint64_t offset, std::uint32_t count);
  void remove(const ObjectId& id);
  void abort(std::uint64_t offset);
  void get(const ObjectId& id);
  void get_sealed(const ObjectId& id);
  void cancel_get(const ObjectId& id);
  void slab_trim(std::uint64_t slab, std::uint64_t used_bytes);
  void slab_close(std::uint64_t slab);
  void cancel_create(std::uint64_t correlation);

  std::span<const std::byte> view() const { return writer_.view(); }
  std::size_t size() const { return writer_.size(); }
  void clear() { writer_.clear(); }

 private:
  wire::ByteWriter writer_;
};

struct CreateRequest {
  ObjectId id;
  WorkerId owner;
  std::uint64_t size_bytes = 0;
  std::uint32_t timeout_ms = 0;
  std::uint8_t flags = kPrimary;
};

enum class CreateStatus : std::uint8_t { kOk = 0, kTooLarge = 1, kFull = 2, kExists = 3 };

struct CreateReply {
  CreateStatus status = CreateStatus::kOk;
  std::uint64_t offset = 0;
  std::string message;
};

struct SlabRequest {
  std::uint64_t min_bytes = 0;  // of the object that is waiting for it
};

struct SlabGrant {
  std::uint64_t slab = 0;  // names the lease in later operations
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;  // 0: none now; ask for objects one by one
};

enum class ObjectStatus : std::uint8_t {
  kReady = 0,  // pinned once for the client
  kLost = 1,   // deleted, or its creator went away before it was sealed, or not there (kGetSealed)
};

struct ObjectReply {
  ObjectId id;
  ObjectStatus status = ObjectStatus::kReady;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
};

inline constexpr std::size_t kMaxMessageBytes = 8192;

std::vector<std::byte> encode(const ArenaInfo& info);
std::vector<std::byte> encode(const CreateRequest& request);
std::vector<std::byte> encode(const CreateReply& reply);
std::vector<std::byte> encode(const SlabRequest& request);
std::vector<std::byte> encode(const SlabGrant& grant);
std::vector<std::byte> encode(std::span<const ObjectReply> replies);

std::optional<ArenaInfo> decode_arena(std::span<const std::byte> payload);
std::optional<CreateRequest> decode_create(std::span<const std::byte> payload);
std::optional<CreateReply> decode_created(std::span<const std::byte> payload);
std::optional<SlabRequest> decode_slab_request(std::span<const std::byte> payload);
std::optional<SlabGrant> decode_slab_grant(std::span<const std::byte> payload);
std::optional<std::vector<ObjectReply>> decode_objects(std::span<const std::byte> payload);

}  // namespace aktis::plasma
