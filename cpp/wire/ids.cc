#include "wire/ids.h"

#include <sys/random.h>

#include <cerrno>
#include <system_error>

namespace aktis {

template <typename Tag, std::size_t Bytes>
Id<Tag, Bytes> Id<Tag, Bytes>::random() {
  Id id;
  std::size_t filled = 0;
  while (filled < Bytes) {
    const ssize_t got = getrandom(id.data + filled, Bytes - filled, 0);
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      throw std::system_error(errno, std::system_category(), "getrandom for a new id");
    }
  }
  return id;
}

template <typename Tag, std::size_t Bytes>
std::string Id<Tag, Bytes>::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * Bytes);
  for (const std::uint8_t byte : data) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

template struct Id<WorkerTag, 16>;
template struct Id<NodeTag, 16>;
template struct Id<JobTag, 4>;
template struct Id<ActorTag, 16>;
template struct Id<FunctionTag, 16>;
template struct Id<TaskTag, 16>;
template struct Id<ObjectTag, 20>;

}  // namespace aktis
