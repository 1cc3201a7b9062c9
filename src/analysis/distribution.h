// The distributions that the theory puts into a block: independent values, symmetric about zero.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ufp4::analysis {

// A symmetric distribution, known by the partial moments of its magnitude.
class Distribution {
 public:
  // "uniform" on [-1, 1], "normal" (variance 1), "laplace" (scale 1), "student3", "student5", .. (degrees of freedom, 3
  // to 99). Throws InputError that lists them.
  explicit Distribution(std::string_view name);

  const std::string& name() const { return name_; }

  // Partial moments of |X|: {P(|X| <= x), E[|X|; |X| <= x], E[X^2; |X| <= x]}.
  std::array<double, 3> moments_below(double x) const;

  // The density of |X| at x >= 0.
  double density(double x) const;

  // The largest |X| there is: 1 for the uniform distribution, infinite else.
  double upper_end() const;

  // Fills `values` with draws number `first`, `first` + 1, .. of the stream `seed`.
  void sample(std::span<float> values, std::uint64_t seed, std::uint64_t first) const;

 private:
  enum class Kind { kUniform, kNormal, kLaplace, kStudent };
  double draw(std::uint64_t seed, std::uint64_t index) const;

  std::string name_;
  Kind kind_ = Kind::kNormal;
  int degrees_ = 0;  // of freedom, Student only
};

}  // namespace ufp4::analysis
