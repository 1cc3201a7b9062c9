#include "io/safetensors_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "io/foreign_file.h"
#include "io/json.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".safetensors";
constexpr std::string_view kIndexEnding = ".safetensors.index.json";
// An index has a line a tensor.
constexpr JsonLimits kIndexLimits{.bytes = std::uint64_t{256} << 20, .depth = 8};

[[noreturn]] void refuse_missing(const fs::path& folder, std::string_view shard, const std::string& why) {
  throw InputError("folder '" + folder.string() + "': the shard " + show_name(shard) + " is missing: " + why);
}

void check_index(const fs::path& folder, const fs::path& index, const std::set<std::string>& names) {
  const nlohmann::json json = read_json(index, kIndexLimits);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    throw InputError("'" + index.string() + "': expected an object 'weight_map' of tensors and their shards");
  }
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw InputError("'" + index.string() + "': the shard of " + show_name(tensor) + " is " +
                       show_name(shard.dump()) + ", expected the name of a file");
    }
    const auto& name = shard.get_ref<const std::string&>();
    if (!names.contains(name)) {
      refuse_missing(folder, name, show_name(index.filename().string()) + " says that it holds " + show_name(tensor));
    }
  }
}

// PREFIX-NUMBER-of-TOTAL.safetensors.
struct ShardName {
  std::string before;  // the number
  std::string number;
  std::string behind;  // "-of-TOTAL.safetensors"
  std::uint32_t total = 0;
};

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::uint32_t number_of(std::string_view digits) {
  std::uint32_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::optional<ShardName> shard_name(std::string_view name) {
  const std::string_view stem = name.substr(0, name.size() - kEnding.size());
  const std::size_t of = stem.rfind("-of-");
  if (of == std::string_view::npos) return std::nullopt;
  const std::size_t dash = stem.substr(0, of).rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view number = stem.substr(dash + 1, of - dash - 1);
  const std::string_view total = stem.substr(of + 4);
  if (!all_digits(number) || !all_digits(total)) return std::nullopt;
  return ShardName{std::string(name.substr(0, dash + 1)), std::string(number), std::string(name.substr(of)),
                   number_of(total)};
}

void check_numbers(const fs::path& folder, const std::set<std::string>& names) {
  std::map<std::string, std::vector<ShardName>> series;  // by all but the number
  for (const std::string& name : names) {
    if (auto shard = shard_name(name)) series[shard->before + shard->behind].push_back(std::move(*shard));
  }
  for (const auto& [rest, shards] : series) {
    std::set<std::uint32_t> numbers;
    for (const ShardName& shard : shards) numbers.insert(number_of(shard.number));
    const ShardName& first = shards.front();
    const std::uint32_t begin = *numbers.begin() == 0 ? 0 : 1;  // some count from 0
    for (std::uint32_t n = begin; n - begin < first.total; ++n) {
      if (numbers.contains(n)) continue;
      std::string digits = std::to_string(n);
      digits.insert(0, first.number.size() - std::min(first.number.size(), digits.size()), '0');
      refuse_missing(
          folder, first.before + digits + first.behind,
          "the names of " + std::to_string(numbers.size()) + " files announce " + std::to_string(first.total));
    }
  }
}

}  // namespace

SafetensorsFolder list_safetensors(const fs::path& folder) {
  SafetensorsFolder list;
  std::vector<fs::path> indices;
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_macos_companion(name)) {
      if (name.ends_with(kEnding)) list.companions.push_back(entry.path());
    } else if (name.ends_with(kEnding)) {
      list.files.push_back(entry.path());
      names.insert(name);
    } else if (name.ends_with(kIndexEnding)) {
      indices.push_back(entry.path());
    }
  }
  std::sort(list.files.begin(), list.files.end());
  std::sort(list.companions.begin(), list.companions.end());
  std::sort(indices.begin(), indices.end());
  for (const fs::path& index : indices) check_index(folder, index, names);
  check_numbers(folder, names);
  if (list.files.empty()) throw InputError("folder '" + folder.string() + "' holds no .safetensors file");
  return list;
}

}  // namespace ufp4::io
