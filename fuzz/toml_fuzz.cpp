// libFuzzer target of the reader of configurations: any text is a list of settings, whose values read back when they
// are written, or is refused with an InputError.
#include "config/toml_file.h"
#include "target.h"

namespace ufp4::fuzz {
namespace {

void read_toml_text(std::string_view text) {
  for (const Assignment& assignment : parse_toml(text, "fuzz")) {
    check(!assignment.where.empty() && (assignment.array || assignment.value.size() == 1));
    std::string written = "k = [";
    for (const std::string& item : assignment.value) written += toml_quote(item) + ",";
    const std::vector<Assignment> again = parse_toml(written + "]", "again");
    check(again.size() == 1 && again[0].value == assignment.value);
    for (const std::string& item : assignment.value) {
      check(parse_toml("k = " + toml_scalar(item), "again").at(0).value.at(0) == item);
    }
  }
}

}  // namespace
}  // namespace ufp4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return ufp4::fuzz::read_or_refuse([&] { ufp4::fuzz::read_toml_text(ufp4::fuzz::text_of({data, size})); });
}
