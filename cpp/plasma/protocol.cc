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

// What an operation may carry; each uses some of it.
struct OpFields {
  SealOp seal;  // or only its id
  std::uint64_t offset = 0;
  std::uint64_t used_bytes = 0;
  std::uint32_t count = 0;
};

// False: an unknown operation, or one that is cut off.
bool read_fields(ByteReader& reader, Op op, OpFields& fields) {
  switch (op) {
    case Op::kSeal:
      fields.seal.id = reader.id<ObjectId>();
      fields.seal.owner = reader.id<WorkerId>();
      fields.seal.offset = reader.u64();
      fields.seal.size_bytes = reader.u64();
      fields.seal.flags = reader.u8();
      break;
    case Op::kRelease:
      fields.offset = reader.u64();
      fields.count = reader.u32();
      break;
    case Op::kDelete:
    case Op::kGet:
    case Op::kGetSealed:
    case Op::kCancelGet:
      fields.seal.id = reader.id<ObjectId>();
      break;
    case Op::kAbort:
    case Op::kSlabClose:
    case Op::kCancelCreate:
    case Op::kSlabTrim:
      fields.offset = reader.u64();
      if (op == Op::kSlabTrim) fields.used_bytes = reader.u64();
      break;
    default:
      return false;
  }
  return reader.ok();
}

bool visit(OpVisitor& visitor, Op op, const OpFields& fields) {
  switch (op) {
    case Op::kSeal:
      return visitor.on_seal(fields.seal);
    case Op::kRelease:
      return visitor.on_release(fields.offset, fields.count);
    case Op::kDelete:
      return visitor.on_delete(fields.seal.id);
    case Op::kAbort:
      return visitor.on_abort(fields.offset);
    case Op::kGet:
      return visitor.on_get(fields.seal.id);
    case Op::kGetSealed:
      return visitor.on_get_sealed(fields.seal.id);
    case Op::kCancelGet:
      return visitor.on_cancel_get(fields.seal.id);
    case Op::kSlabTrim:
      return visitor.on_slab_trim(fields.offset, fields.used_bytes);
    case Op::kSlabClose:
      return visitor.on_slab_close(fields.offset);
    case Op::kCancelCreate:
      return visitor.on_cancel_create(fields.offset);
  }
  return false;
}

}  // namespace

OpsResult decode_ops(std::span<const std::byte> payload, OpVisitor& visitor) {
  ByteReader reader(payload);
  while (reader.remaining() > 0) {
    const auto op = static_cast<Op>(reader.u8());
    OpFields fields;
    if (!read_fields(reader, op, fields)) return OpsResult::kMalformed;
    if (!visit(visitor, op, fields)) return OpsResult::kRefused;
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
