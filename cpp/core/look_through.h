// Seeing every entry of a hash map that others change, without holding its lock for long.
#pragma once

#include <algorithm>
#include <cstddef>

namespace aktis::core {

inline constexpr std::size_t kBucketsPerLook = 512;

// Calls `see` with every entry, a few hundred buckets at a time under what `lock()` returns. A map that grows
// in between has its entries in other places: then `restart()` is called and all are seen anew, which
// doubling makes rare. Entries that come or go in between may be seen or not.
template <typename Map, typename Lock, typename Restart, typename See>
void look_through(const Map& map, Lock lock, Restart restart, See see) {
  std::size_t buckets = 0;
  std::size_t bucket = 0;
  do {
    const auto guard = lock();
    if (map.bucket_count() != buckets) {
      if (bucket > 0) restart();
      buckets = map.bucket_count();
      bucket = 0;
    }
    const std::size_t end = std::min(buckets, bucket + kBucketsPerLook);
    for (; bucket < end; ++bucket) std::for_each(map.begin(bucket), map.end(bucket), see);
  } while (bucket < buckets);
}

}  // namespace aktis::core
