#include "io/checkpoint_manifest.h"

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

using Json = nlohmann::json;

constexpr int kFormatVersion = 1;

[[noreturn]] void refuse(std::string_view where, const std::string& why) {
  throw InputError("'" + std::string(where) + "': " + why);
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, facts] : manifest) {
    files[name] = nlohmann::ordered_json{{"bytes", facts.bytes}, {"xxh128", facts.xxh128}};
  }
  return nlohmann::ordered_json{{"format", kFormatVersion}, {"files", std::move(files)}}.dump(1) + "\n";
}

Manifest parse_manifest(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  if (const std::int64_t format = whole_number(json, "format", where); format != kFormatVersion) {
    refuse(where, "a manifest of version " + std::to_string(format) + ", expected " + std::to_string(kFormatVersion));
  }
  const auto files = json.find("files");
  if (json.size() != 2 || files == json.end() || !files->is_object()) {
    refuse(where, "expected the keys 'format' and 'files' and no other");
  }
  Manifest manifest;
  for (const auto& [name, facts] : files->items()) {
    const std::string inside = std::string(where) + ", " + show_name(name);
    manifest[name] = {whole_number(facts, "bytes", inside), text_value(facts, "xxh128", inside)};
    if (facts.size() != 2) refuse(inside, "expected the keys 'bytes' and 'xxh128' and no other");
  }
  return manifest;
}

}  // namespace ufp4::io
