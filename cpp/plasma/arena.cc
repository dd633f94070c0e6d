#include "plasma/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace aktis::plasma {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr std::uint64_t kHugePageBytes = 2u << 20;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), std::string("object store arena: ") + what);
}

}  // namespace

Arena::Arena(std::uint64_t size_bytes, HugePages huge_pages) {
  page_bytes_ = huge_pages == HugePages::kHugetlb ? kHugePageBytes
                                                  : static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t unit = huge_pages == HugePages::kNone ? page_bytes_ : kHugePageBytes;
  size_ = (size_bytes + unit - 1) / unit * unit;
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_pages == HugePages::kHugetlb) flags |= MFD_HUGETLB;
  fd_ = wire::UniqueFd(::memfd_create("aktis-plasma-arena", flags));
  if (!fd_) fail("memfd_create");
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) fail("ftruncate");
  if (::fcntl(fd_.get(), F_ADD_SEALS, kSeals) != 0) fail("F_ADD_SEALS");
  map();
  // Advice only: most kernels are set to ignore it for shared memory, which changes speed and nothing else.
  if (huge_pages == HugePages::kAdvise) ::madvise(data_, size_, MADV_HUGEPAGE);
}

Arena::Arena(wire::UniqueFd inherited) : fd_(std::move(inherited)) {
  struct stat status{};
  if (::fstat(fd_.get(), &status) != 0) fail("fstat of the inherited descriptor");
  const int seals = ::fcntl(fd_.get(), F_GET_SEALS);
  if (seals < 0) fail("the inherited descriptor is not a memfd");
  if ((seals & kSeals) != kSeals || status.st_size <= 0) {
    errno = EINVAL;
    fail("the inherited descriptor is not an arena (seals or size)");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  page_bytes_ = static_cast<std::uint64_t>(status.st_blksize);
  map();
}

Arena::~Arena() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void Arena::map() {
  void* data = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (data == MAP_FAILED) fail("mmap");
  data_ = data;
  // Object bytes in a core dump would be gigabytes of users' data.
  ::madvise(data_, size_, MADV_DONTDUMP);
}

bool Arena::populate(std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t begin = offset / page_bytes_ * page_bytes_;
  const std::uint64_t end = std::min((offset + length + page_bytes_ - 1) / page_bytes_ * page_bytes_, size_);
  if (begin >= end) return true;
  int result;
  do {
    result = ::madvise(static_cast<std::byte*>(data_) + begin, end - begin, MADV_POPULATE_WRITE);
  } while (result != 0 && (errno == EINTR || errno == EAGAIN));
  return result == 0;
}

std::uint64_t Arena::discard(std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t begin = (offset + page_bytes_ - 1) / page_bytes_ * page_bytes_;
  const std::uint64_t end = std::min(offset + length, size_) / page_bytes_ * page_bytes_;
  if (begin >= end) return 0;
  return ::madvise(static_cast<std::byte*>(data_) + begin, end - begin, MADV_REMOVE) == 0 ? end - begin : 0;
}

std::uint64_t Arena::resident_bytes() const {
  struct stat status{};
  return ::fstat(fd_.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

}  // namespace aktis::plasma
