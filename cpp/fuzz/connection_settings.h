// The first byte of an input of connection_input_fuzz.
#pragma once

#include <cstdint>

namespace aktis::fuzz {

inline constexpr std::uint8_t kWantsToken = 1;       // accepted: who says hello must know kToken
inline constexpr std::uint8_t kTakesDescriptor = 2;  // one may come at a time
inline constexpr std::uint8_t kDialled = 4;          // the input answers our hello, else it begins with one
inline constexpr std::uint8_t kDescriptor = 8;       // with the input come so many, at most two
inline constexpr std::uint8_t kDescriptors = 3 * kDescriptor;

inline constexpr char kToken[] = "secret";

}  // namespace aktis::fuzz
