#include <algorithm>
#include <cstdio>

#include "plasma/engine.h"

namespace aktis::plasma {
namespace {

constexpr std::size_t kMaxListed = 5;
constexpr const char* kMoreMemory =
    "give the store more memory (plasma.capacity_bytes, object_store_memory of init)";

std::string bytes_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) value /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::uint64_t held_by(const Session& session) {
  return session.pinned_bytes + session.creating_bytes + session.slab_bytes;
}

}  // namespace

std::string too_large_message(const CreateRequest& request, std::uint64_t capacity_bytes) {
  return "object of " + std::to_string(request.size_bytes) + " bytes is larger than the whole store (" +
         std::to_string(capacity_bytes) + " bytes): split it, or " + kMoreMemory;
}

std::string full_message(const CreateRequest& request, const EngineStatistics& statistics,
                         const std::vector<std::pair<WorkerId, const OwnerAccount*>>& owners,
                         const std::vector<const Session*>& sessions) {
  const auto& objects = statistics.objects;
  std::string text = "object store is full: no room for " + bytes_text(request.size_bytes) + " (object " +
                     request.id.hex() + ") within " + std::to_string(request.timeout_ms) + " ms. Of " +
                     bytes_text(statistics.capacity_bytes) + ", " + bytes_text(statistics.free_bytes) +
                     " are free (largest piece " + bytes_text(statistics.largest_free_bytes) + "); " +
                     std::to_string(objects.sealed) + " sealed objects take " +
                     bytes_text(objects.sealed_bytes) + ", " + std::to_string(objects.deleted) +
                     " deleted ones still being read " + bytes_text(objects.deleted_bytes) + ", " +
                     std::to_string(objects.created) + " being written " + bytes_text(objects.created_bytes) +
                     ", leased slabs " + bytes_text(statistics.slab_bytes) + ".";

  auto by_owner = owners;
  std::sort(by_owner.begin(), by_owner.end(),
            [](const auto& left, const auto& right) { return left.second->bytes > right.second->bytes; });
  if (by_owner.size() > kMaxListed) by_owner.resize(kMaxListed);
  for (const auto& [owner, account] : by_owner) {
    text += " Owner " + owner.hex() + ": " + bytes_text(account->bytes) + " in " +
            std::to_string(account->objects.size()) + " objects.";
  }

  auto by_client = sessions;
  std::sort(by_client.begin(), by_client.end(),
            [](const Session* left, const Session* right) { return held_by(*left) > held_by(*right); });
  if (by_client.size() > kMaxListed) by_client.resize(kMaxListed);
  for (const Session* session : by_client) {
    if (held_by(*session) == 0) break;
    text += " Process " + std::to_string(session->pid) + " reads " + bytes_text(session->pinned_bytes) +
            ", writes " + bytes_text(session->creating_bytes) + ", leases " +
            bytes_text(session->slab_bytes) + ".";
  }
  return text + " Drop references that are not needed, or " + kMoreMemory + ".";
}

}  // namespace aktis::plasma
