// The tables of keys for people: the list of `ufp4 train --help-config`, and the tables of the documentation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ufp4 {

// All keys with the values that they take, default and meaning.
std::string describe_keys();

// A table in Markdown, which stands in a page of the documentation word for word.
struct DocTable {
  std::string_view page;  // "docs/training.md"
  std::string_view title;
  std::string text;
};

std::vector<DocTable> doc_tables();

// All of them with their pages.
std::string describe_doc_tables();

}  // namespace ufp4
