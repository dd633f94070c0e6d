// What inputs of the fuzz targets of the store and of its clients mean: for the targets, and for the tests
// that make seeds and see that every frame and operation has one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "plasma/protocol.h"

namespace aktis::fuzz {

// plasma_engine_fuzz: a step is a byte with the client (2 bits) and the kind (3 bits), one of length,
// payload.
enum class StoreStep : std::uint8_t {
  kOps,
  kMoreOps,
  kCreate,
  kSlabRequest,
  kClose,
  kFreeOwner,
  kEvict,
  kWait
};

struct ToStore {
  unsigned client = 0;
  StoreStep kind = StoreStep::kOps;
  std::span<const std::byte> payload;
};

// plasma_client_fuzz: a step is a byte that says what, one of length, payload. From 64 on it is a frame of
// the store's, whose payload follows a byte of correlation; below, something that the client's process does
// with the object whose number is the payload's first byte.
enum class ClientStep : std::uint8_t {
  kRequest,
  kCancelRequest,
  kCreate,     // as large as the second byte says, in 8 KiB
  kEndCreate,  // the oldest that was begun
  kGiveUp,     // the same
  kSeal,
  kAbort,
  kPin,
  kUnpin,
  kRemove,
  kLast = kRemove,
};

struct AtClient {
  std::uint8_t what = 0;
  std::span<const std::byte> payload;
};

inline std::optional<AtClient> next_client_step(std::span<const std::byte>& input) {
  if (input.size() < 2) return std::nullopt;
  const auto length = std::min(static_cast<std::size_t>(input[1]), input.size() - 2);
  const AtClient step{static_cast<std::uint8_t>(input[0]), input.subspan(2, length)};
  input = input.subspan(2 + length);
  return step;
}

inline std::optional<ToStore> next_store_step(std::span<const std::byte>& input) {
  const auto step = next_client_step(input);
  if (!step) return std::nullopt;
  return ToStore{(step->what & 3u) % 3u, static_cast<StoreStep>((step->what >> 2) & 7), step->payload};
}

// Who decodes it; nullopt when there is no such frame. The compiler misses one that is not here.
enum class DecodedBy { kStore, kClient };
inline std::optional<DecodedBy> decoder_of(std::uint8_t type) {
  using plasma::PlasmaFrame;
  switch (static_cast<PlasmaFrame>(type)) {
    case PlasmaFrame::kOps:
    case PlasmaFrame::kCreate:
    case PlasmaFrame::kSlabRequest:
      return DecodedBy::kStore;
    case PlasmaFrame::kArena:
    case PlasmaFrame::kCreated:
    case PlasmaFrame::kSlabGrant:
    case PlasmaFrame::kObjects:
    case PlasmaFrame::kReclaim:
      return DecodedBy::kClient;
  }
  return std::nullopt;
}

}  // namespace aktis::fuzz
