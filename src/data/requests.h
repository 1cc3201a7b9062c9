// What every data set checks of a call. Both throw std::invalid_argument: a wrong call is an error of the program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ufp4::data {

// How many sequences of `sequence_length` + 1 make up `tokens`, which must be whole ones.
std::int64_t whole_sequences(std::size_t tokens, std::int64_t sequence_length);

// Sequence `index` of `count`, into room for exactly one.
void check_val_request(std::int64_t index, std::int64_t count, std::size_t tokens, std::int64_t sequence_length);

}  // namespace ufp4::data
