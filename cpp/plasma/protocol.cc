#include "plasma/protocol.h"

namespace aktis::plasma {
namespace {

using wire::ByteReader;
using wire::ByteWriter;

constexpr std::size_t kObjectReplyBytes = sizeof(ObjectId) + 1 + 8 + 8;

// Trailing bytes are allowed: a newer minor version may append fields.
template <typename T>
std::optional<T> done(const ByteReader& reader, T value) {
  if (!reader.ok()) return std::nullopt;
  return value;
}

}  // namespace

OpsResult decode_ops(std::span<const std::byte> payload, OpVisitor& visitor) {
  ByteReader reader(payload);
  while (reader.remaining() > 0) {
    const auto op = static_cast<Op>(reader.u8());
    SealOp seal;
    std::uint64_t offset = 0, used_bytes = 0;
    std::uint32_t count = 0;
    switch (op) {
      case Op::kSeal:
        seal.id = reader.id<ObjectId>();
        seal.owner = reader.id<WorkerId>();
        seal.offset = reader.u64();
        seal.size_bytes = reader.u64();
        seal.flags = reader.u8();
        break;
      case Op::kRelease:
        offset = reader.u64();
        count = reader.u32();
        break;
      case Op::kDelete:
      case Op::kGet:
      case Op::kGetSealed:
      case Op::kCancelGet:
        seal.id = reader.id<ObjectId>();
        break;
      case Op::kAbort:
      case Op::kSlabClose:
      case Op::kCancelCreate:
      case Op::kSlabTrim:
        offset = reader.u64();
        if (op == Op::kSlabTrim) used_bytes = reader.u64();
        break;
      default:
        return OpsResult::kMalformed;
    }
    if (!reader.ok()) return OpsResult::kMalformed;
    bool accepted = false;
    switch (op) {
      case Op::kSeal:
        accepted = visitor.on_seal(seal);
        break;
      case Op::kRelease:
        accepted = visitor.on_release(offset, count);
        break;
      case Op::kDelete:
        accepted = visitor.on_delete(seal.id);
        break;
      case Op::kAbort:
        accepted = visitor.on_abort(offset);
        break;
      case Op::kGet:
        accepted = visitor.on_get(seal.id);
        break;
      case Op::kGetSealed:
        accepted = visitor.on_get_sealed(seal.id);
        break;
      case Op::kCancelGet:
        accepted = visitor.on_cancel_get(seal.id);
        break;
      case Op::kSlabTrim:
        accepted = visitor.on_slab_trim(offset, used_bytes);
        break;
      case Op::kSlabClose:
        accepted = visitor.on_slab_close(offset);
        break;
      case Op::kCancelCreate:
        accepted = visitor.on_cancel_create(offset);
        break;
    }
    if (!accepted) return OpsResult::kRefused;
  }
  return OpsResult::kOk;
}

void OpWriter::seal(const SealOp& op) {
  writer_.u8(static_cast<std::uint8_t>(Op::kSeal)).id(op.id).id(op.owner);
  writer_.u64(op.offset).u64(op.size_bytes).u8(op.flags);
}

void OpWriter::release(std::uint64_t offset, std::uint32_t count) {
  writer_.u8(static_cast<std::uint8_t>(Op::kRelease)).u64(offset).u32(count);
}

void OpWriter::remove(const ObjectId& id) { writer_.u8(static_cast<std::uint8_t>(Op::kDelete)).id(id); }
void OpWriter::abort(std::uint64_t offset) { writer_.u8(static_cast<std::uint8_t>(Op::kAbort)).u64(offset); }
void OpWriter::get(const ObjectId& id) { writer_.u8(static_cast<std::uint8_t>(Op::kGet)).id(id); }
void OpWriter::get_sealed(const ObjectId& id) {
  writer_.u8(static_cast<std::uint8_t>(Op::kGetSealed)).id(id);
}
void OpWriter::cancel_get(const ObjectId& id) {
  writer_.u8(static_cast<std::uint8_t>(Op::kCancelGet)).id(id);
}

void OpWriter::slab_trim(std::uint64_t slab, std::uint64_t used_bytes) {
  writer_.u8(static_cast<std::uint8_t>(Op::kSlabTrim)).u64(slab).u64(used_bytes);
}

void OpWriter::slab_close(std::uint64_t slab) {
  writer_.u8(static_cast<std::uint8_t>(Op::kSlabClose)).u64(slab);
}

void OpWriter::cancel_create(std::uint64_t correlation) {
  writer_.u8(static_cast<std::uint8_t>(Op::kCancelCreate)).u64(correlation);
}

std::vector<std::byte> encode(const ArenaInfo& info) {
  ByteWriter writer;
  writer.u64(info.arena_bytes).u64(info.epoch).u64(info.slab_max_bytes).u32(info.create_timeout_ms);
  return writer.take();
}

std::vector<std::byte> encode(const CreateRequest& request) {
  ByteWriter writer;
  writer.id(request.id).id(request.owner).u64(request.size_bytes).u32(request.timeout_ms).u8(request.flags);
  return writer.take();
}

std::vector<std::byte> encode(const CreateReply& reply) {
  ByteWriter writer;
  writer.u8(static_cast<std::uint8_t>(reply.status)).u64(reply.offset);
  writer.text(std::string_view(reply.message).substr(0, kMaxMessageBytes));
  return writer.take();
}

std::vector<std::byte> encode(const SlabRequest& request) {
  ByteWriter writer;
  writer.u64(request.min_bytes);
  return writer.take();
}

std::vector<std::byte> encode(const SlabGrant& grant) {
  ByteWriter writer;
  writer.u64(grant.slab).u64(grant.offset).u64(grant.size_bytes);
  return writer.take();
}

std::vector<std::byte> encode(std::span<const ObjectReply> replies) {
  ByteWriter writer;
  writer.u32(static_cast<std::uint32_t>(replies.size()));
  for (const ObjectReply& reply : replies) {
    writer.id(reply.id).u8(static_cast<std::uint8_t>(reply.status)).u64(reply.offset).u64(reply.size_bytes);
  }
  return writer.take();
}

std::optional<ArenaInfo> decode_arena(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  ArenaInfo info;
  info.arena_bytes = reader.u64();
  info.epoch = reader.u64();
  info.slab_max_bytes = reader.u64();
  info.create_timeout_ms = reader.u32();
  return done(reader, info);
}

std::optional<CreateRequest> decode_create(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  CreateRequest request;
  request.id = reader.id<ObjectId>();
  request.owner = reader.id<WorkerId>();
  request.size_bytes = reader.u64();
  request.timeout_ms = reader.u32();
  request.flags = reader.u8();
  return done(reader, request);
}

std::optional<CreateReply> decode_created(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  CreateReply reply;
  const auto status = reader.u8();
  if (status > static_cast<std::uint8_t>(CreateStatus::kExists)) return std::nullopt;
  reply.status = static_cast<CreateStatus>(status);
  reply.offset = reader.u64();
  reply.message = reader.text(kMaxMessageBytes);
  return done(reader, std::move(reply));
}

std::optional<SlabRequest> decode_slab_request(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  SlabRequest request;
  request.min_bytes = reader.u64();
  return done(reader, request);
}

std::optional<SlabGrant> decode_slab_grant(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  SlabGrant grant;
  grant.slab = reader.u64();
  grant.offset = reader.u64();
  grant.size_bytes = reader.u64();
  return done(reader, grant);
}

std::optional<std::vector<ObjectReply>> decode_objects(std::span<const std::byte> payload) {
  ByteReader reader(payload);
  const std::size_t count = reader.u32();
  if (!reader.fits(count, kObjectReplyBytes)) return std::nullopt;
  std::vector<ObjectReply> replies(count);
  for (ObjectReply& reply : replies) {
    reply.id = reader.id<ObjectId>();
    const auto status = reader.u8();
    if (status > static_cast<std::uint8_t>(ObjectStatus::kLost)) return std::nullopt;
    reply.status = static_cast<ObjectStatus>(status);
    reply.offset = reader.u64();
    reply.size_bytes = reader.u64();
  }
  return done(reader, std::move(replies));
}

}  // namespace aktis::plasma
