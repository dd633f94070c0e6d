#include "plasma/stream_copy.h"

#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

namespace aktis::plasma {

#ifdef __x86_64__
namespace {

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPages = 4;  // side by side
constexpr std::size_t kBlockBytes = kPages * kPageBytes;
constexpr std::size_t kPrefetchBytes = 256;

void stream_line(std::byte* to, const std::byte* from) {
  const auto* source = reinterpret_cast<const __m128i*>(from);
  auto* target = reinterpret_cast<__m128i*>(to);
  const __m128i first = _mm_loadu_si128(source);
  const __m128i second = _mm_loadu_si128(source + 1);
  const __m128i third = _mm_loadu_si128(source + 2);
  const __m128i fourth = _mm_loadu_si128(source + 3);
  _mm_stream_si128(target, first);
  _mm_stream_si128(target + 1, second);
  _mm_stream_si128(target + 2, third);
  _mm_stream_si128(target + 3, fourth);
}

void stream_block(std::byte* to, const std::byte* from) {
  for (std::size_t line = 0; line < kPageBytes; line += kLineBytes) {
    for (std::size_t page = 0; page < kBlockBytes; page += kPageBytes) {
      // Prefetching past the end of the source is harmless: it never faults.
      _mm_prefetch(reinterpret_cast<const char*>(from) + page + line + kPrefetchBytes, _MM_HINT_T0);
    }
    for (std::size_t page = 0; page < kBlockBytes; page += kPageBytes) {
      stream_line(to + page + line, from + page + line);
    }
  }
}

}  // namespace

void stream_copy(std::span<std::byte> to, std::span<const std::byte> from) {
  if (to.size() < kStreamMinBytes) {
    if (!to.empty()) std::memcpy(to.data(), from.data(), to.size());
    return;
  }
  const std::size_t head =
      (kLineBytes - reinterpret_cast<std::uintptr_t>(to.data()) % kLineBytes) % kLineBytes;
  std::memcpy(to.data(), from.data(), head);
  std::size_t done = head;
  for (; to.size() - done >= kBlockBytes; done += kBlockBytes) {
    stream_block(to.data() + done, from.data() + done);
  }
  std::memcpy(to.data() + done, from.data() + done, to.size() - done);
  _mm_sfence();  // streaming stores are weakly ordered: the seal must not overtake them
}
#else
void stream_copy(std::span<std::byte> to, std::span<const std::byte> from) {
  if (!to.empty()) std::memcpy(to.data(), from.data(), to.size());
}
#endif

}  // namespace aktis::plasma
