#include <gtest/gtest.h>

#include <string>

#include "wire/log.h"

namespace aktis::wire {
namespace {

TEST(LogTest, GoesToTheSinkThatWasSet) {
  std::string seen;
  set_log_sink([&](LogLevel level, std::string_view component, std::string_view message) {
    seen =
        std::to_string(static_cast<int>(level)) + " " + std::string(component) + " " + std::string(message);
  });
  log(LogLevel::kWarning, "wire", "refused");
  set_log_sink({});
  EXPECT_EQ(seen, "2 wire refused");
}

TEST(LogTest, TheDefaultSinkWritesOneLineToStderr) {
  ::testing::internal::CaptureStderr();
  log(LogLevel::kError, "wire", "out of descriptors");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "error wire: out of descriptors\n");
}

TEST(LogTest, ASinkMayReplaceItself) {
  int calls = 0;
  set_log_sink([&](LogLevel, std::string_view, std::string_view) {
    ++calls;
    set_log_sink([&](LogLevel, std::string_view, std::string_view) { calls += 10; });
  });
  log(LogLevel::kInfo, "test", "first");
  log(LogLevel::kInfo, "test", "second");
  set_log_sink({});
  EXPECT_EQ(calls, 11);
}

}  // namespace
}  // namespace aktis::wire
