#include "analysis/distribution.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>

#include "numerics/philox.h"
#include "ufp4/error.h"

namespace ufp4::analysis {
namespace {

using std::numbers::pi;

// P(|T| <= x) of Student's t with n degrees of freedom: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
double student_probability(double x, int n) {
  const double theta = std::atan(x / std::sqrt(n));
  const double cosine2 = std::cos(theta) * std::cos(theta);
  double term = n % 2 == 1 ? std::cos(theta) : 1;
  double sum = n == 1 ? 0 : term;
  for (int k = n % 2 == 1 ? 3 : 2; k <= n - 2; k += 2) {
    term *= cosine2 * (k - 1) / k;
    sum += term;
  }
  return n % 2 == 1 ? 2 / pi * (theta + std::sin(theta) * sum) : std::sin(theta) * sum;
}

// The factor of Student's density.
double student_constant(int n) {
  return std::exp(std::lgamma((n + 1) / 2.0) - std::lgamma(n / 2.0)) / std::sqrt(n * pi);
}

std::array<double, 3> student_moments(double x, int n) {
  const double c = 2 * student_constant(n);
  const double power = std::pow(1 + x * x / n, -(n - 1) / 2.0);
  // Second moment by parts: it leaves the integral of (1 + u^2 / n)^(-(n - 1) / 2), a Student distribution of n - 2.
  const double ratio = std::sqrt(static_cast<double>(n) / (n - 2));
  const double rest = ratio * student_probability(x / ratio, n - 2) / (2 * student_constant(n - 2));
  return {student_probability(x, n), c * n / (n - 1) * (1 - power), n / (n - 1.0) * c * (rest - x * power)};
}

double uniform53(std::uint32_t high, std::uint32_t low) {
  return (static_cast<double>((std::uint64_t{high} << 32 | low) >> 11) + 0.5) * 0x1p-53;
}

}  // namespace

Distribution::Distribution(std::string_view name) : name_(name) {
  constexpr std::string_view kStudent = "student";
  if (name == "uniform") {
    kind_ = Kind::kUniform;
  } else if (name == "normal") {
    kind_ = Kind::kNormal;
  } else if (name == "laplace") {
    kind_ = Kind::kLaplace;
  } else {
    const std::string_view digits = name.starts_with(kStudent) ? name.substr(kStudent.size()) : std::string_view();
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), degrees_);
    if (error != std::errc() || end != digits.data() + digits.size() || degrees_ < 3 || degrees_ > 99) {
      throw InputError("unknown distribution '" + name_ + "'; known: uniform, normal, laplace, student3 .. student99");
    }
    kind_ = Kind::kStudent;
  }
}

std::array<double, 3> Distribution::moments_below(double x) const {
  switch (kind_) {
    case Kind::kUniform: {
      const double y = std::min(x, 1.0);
      return {y, y * y / 2, y * y * y / 3};
    }
    case Kind::kNormal: {
      const double mass = std::erf(x / std::numbers::sqrt2);
      const double factor = std::sqrt(2 / pi);
      const double bell = std::exp(-x * x / 2);
      return {mass, factor * (1 - bell), mass - factor * x * bell};
    }
    case Kind::kLaplace: {
      const double decay = std::exp(-x);
      return {-std::expm1(-x), 1 - (1 + x) * decay, 2 - (x * x + 2 * x + 2) * decay};
    }
    case Kind::kStudent: return student_moments(x, degrees_);
  }
  return {};
}

double Distribution::density(double x) const {
  switch (kind_) {
    case Kind::kUniform: return x <= 1 ? 1 : 0;
    case Kind::kNormal: return std::sqrt(2 / pi) * std::exp(-x * x / 2);
    case Kind::kLaplace: return std::exp(-x);
    case Kind::kStudent: return 2 * student_constant(degrees_) * std::pow(1 + x * x / degrees_, -(degrees_ + 1) / 2.0);
  }
  return 0;
}

double Distribution::upper_end() const { return kind_ == Kind::kUniform ? 1 : std::numeric_limits<double>::infinity(); }

double Distribution::draw(std::uint64_t seed, std::uint64_t index) const {
  const auto words = [&](std::uint32_t part) {
    return philox::generate({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), part, 0},
                            philox::make_key(seed));
  };
  const philox::Counter w = words(0);
  const double u = uniform53(w[0], w[1]);
  const double v = uniform53(w[2], w[3]);
  const double normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * pi * v);
  switch (kind_) {
    case Kind::kUniform: return 2 * u - 1;
    case Kind::kNormal: return normal;
    case Kind::kLaplace: return u < 0.5 ? std::log(2 * u) : -std::log(2 - 2 * u);
    case Kind::kStudent: {
      // A normal over the root of an independent chi-square / n: a sum of exponentials, and a squared normal if n is
      // odd.
      double chi2 = 0;
      for (int k = 0; k < degrees_; k += 2) {
        const philox::Counter more = words(static_cast<std::uint32_t>(1 + k));
        const double log_u = -2 * std::log(uniform53(more[0], more[1]));
        if (k + 1 < degrees_) {
          chi2 += log_u;
        } else {
          const double cosine = std::cos(2 * pi * uniform53(more[2], more[3]));
          chi2 += log_u * cosine * cosine;
        }
      }
      return normal / std::sqrt(chi2 / degrees_);
    }
  }
  return 0;
}

void Distribution::sample(std::span<float> values, std::uint64_t seed, std::uint64_t first) const {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(draw(seed, first + i));
}

}  // namespace ufp4::analysis
