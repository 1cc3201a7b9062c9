// What is pointed out in the log of a run: a loss that jumps, an operand that quantization serves ever worse. It reads,
// and changes nothing of the run.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace ufp4 {

// A loss far above the last ones.
class LossWatch {
 public:
  // A message where the loss of this step is a spike: above the running mean by more than six of the running deviations
  // and a twentieth of the mean. None within the first steps of a start, nor right behind a spike.
  std::optional<std::string> see(std::int64_t step, double loss);

 private:
  std::int64_t seen_ = 0;
  std::int64_t quiet_until_ = 0;
  double mean_ = 0;
  double variance_ = 0;
};

// An operand whose SQNR in dB has fallen.
class SqnrWatch {
 public:
  // A message where the SQNR of `operand` is lower by 3 dB than the best of earlier measurements, once for each further
  // 3 dB.
  std::optional<std::string> see(std::int64_t step, const std::string& operand, double sqnr_db);

 private:
  struct Seen {
    double best = 0;
    double told = 0;  // dB below it
  };
  std::map<std::string, Seen> operands_;
};

}  // namespace ufp4
