// INT8 products against cuBLASLt's BF16 products of the same shapes in the same run: prints the tables of
// docs/performance.md. Usage: int8_products [--quick] [--launches] [--segments-first] [--only NAME]
//   --quick           few repetitions
//   --launches        every launch of each product, with one segment a row and with segments of 512
//   --segments-first  scales lie as [segments, rows], not as [rows, segments]
//   --only NAME       products whose name contains NAME
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/int8_product.h"
#include "device_timing.h"

namespace {

using namespace ufp4;
using namespace ufp4::bench;

constexpr std::int64_t kSegments[] = {0, 1024, 512, 256, 128};
constexpr std::int64_t kColdBytes = std::int64_t{192} << 20;  // beyond the caches
constexpr int kMaxSets = 6;

struct Options {
  bool quick = false, launches = false, segments_first = false;
  std::string only;
};

struct Named {
  const char* name;
  std::int64_t m, n, k;
  Int8Result result;
};

// The linears of a layer at 1.5b, 16,384 tokens.
constexpr Named kProducts[] = {
    {"qkv, fprop", 16384, 6144, 2048, Int8Result::kBf16},  {"qkv, dgrad", 16384, 2048, 6144, Int8Result::kBf16},
    {"qkv, wgrad", 6144, 2048, 16384, Int8Result::kF32},   {"proj, fprop", 16384, 2048, 2048, Int8Result::kBf16},
    {"proj, wgrad", 2048, 2048, 16384, Int8Result::kF32},  {"fc1, fprop", 16384, 12288, 2048, Int8Result::kBf16},
    {"fc1, dgrad", 16384, 2048, 12288, Int8Result::kBf16}, {"fc1, wgrad", 12288, 2048, 16384, Int8Result::kF32},
    {"fc2, fprop", 16384, 2048, 6144, Int8Result::kBf16},  {"fc2, dgrad", 16384, 6144, 2048, Int8Result::kBf16},
    {"fc2, wgrad", 2048, 6144, 16384, Int8Result::kF32},
};

__global__ void fill_integers(std::int8_t* to, std::int64_t count, std::int64_t seed) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float value = roughly_normal(hash_bits(i + seed)) * 45;
    to[i] = static_cast<std::int8_t>(fminf(fmaxf(rintf(value), -120), 120));
  }
}

__global__ void fill_bf16(std::uint16_t* to, std::int64_t count, std::int64_t seed) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    to[i] = static_cast<std::uint16_t>(__float_as_uint(roughly_normal(hash_bits(i + seed))) >> 16);
  }
}

__global__ void fill_scales(float* to, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    to[i] = 0.01F + 0.001F * fabsf(roughly_normal(hash_bits(i)));
  }
}

// Device memory that goes with its owner.
template <typename T>
class Array {
 public:
  explicit Array(std::int64_t count) : data_(device_array<T>(count)) {}
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};

// Times calls of some hundred microseconds: enough of them between events.
class Clock {
 public:
  explicit Clock(const Options& options) : quick_(options.quick) {}
  double microseconds(int sets, const std::function<void(int)>& run) const {
    return measure(sets, quick_ ? 2 : 6, run, quick_ ? 5 : 21);
  }

 private:
  bool quick_;
};

void check_blas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw RunError(std::string("cuBLASLt: ") + cublasLtGetStatusString(status));
}

// cuBLASLt's first choice for a BF16 product with sums in FP32.
class Bf16Product {
 public:
  Bf16Product(std::int64_t m, std::int64_t n, std::int64_t k, bool wide) : workspace_(kWorkspace) {
    check_blas(cublasLtCreate(&handle_));
    check_blas(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_blas(cublasLtMatmulDescSetAttribute(product_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
    const auto sides = [](std::int64_t i) { return static_cast<std::uint64_t>(i); };
    check_blas(cublasLtMatrixLayoutCreate(&first_, CUDA_R_16BF, sides(k), sides(n), k));
    check_blas(cublasLtMatrixLayoutCreate(&second_, CUDA_R_16BF, sides(k), sides(m), k));
    check_blas(cublasLtMatrixLayoutCreate(&out_, wide ? CUDA_R_32F : CUDA_R_16BF, sides(n), sides(m), n));
    check_blas(cublasLtMatmulPreferenceCreate(&preference_));
    const std::size_t bytes = kWorkspace;
    check_blas(cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                                    sizeof bytes));
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    check_blas(cublasLtMatmulAlgoGetHeuristic(handle_, product_, first_, second_, out_, out_, preference_, 1, &result,
                                              &count));
    if (count == 0) throw RunError("cuBLASLt has no algorithm for a BF16 product");
    algorithm_ = result.algo;
  }
  ~Bf16Product() {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatrixLayoutDestroy(out_);
    cublasLtMatrixLayoutDestroy(second_);
    cublasLtMatrixLayoutDestroy(first_);
    cublasLtMatmulDescDestroy(product_);
    cublasLtDestroy(handle_);
  }
  Bf16Product(const Bf16Product&) = delete;
  Bf16Product& operator=(const Bf16Product&) = delete;

  void run(const std::uint16_t* a, const std::uint16_t* b, void* out) const {
    const float alpha = 1;
    const float beta = 0;
    check_blas(cublasLtMatmul(handle_, product_, &alpha, b, first_, a, second_, &beta, out, out_, out, out_,
                              &algorithm_, workspace_.get(), kWorkspace, nullptr));
  }

 private:
  static constexpr std::size_t kWorkspace = std::size_t{32} << 20;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr, second_ = nullptr, out_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
  Array<std::uint8_t> workspace_;
};

// Operands of a product, several sets of them where they would fit a cache.
class Int8Sets {
 public:
  Int8Sets(const Int8Product& p, std::int64_t b_rows, std::int64_t out_rows, std::int64_t segments, bool segments_first)
      : product_(p),
        sets(static_cast<int>(std::clamp<std::int64_t>(kColdBytes / ((p.m + b_rows) * p.k) + 1, 2, kMaxSets))),
        a_size_(p.m * p.k),
        b_size_(b_rows * p.k),
        out_size_(out_rows * p.n),
        a_(a_size_ * sets),
        b_(b_size_ * sets),
        out_(out_size_ * sets),
        a_scales_(p.m * segments),
        b_scales_(b_rows * segments) {
    fill_integers<<<1024, 256>>>(a_.get(), a_size_ * sets, 1);
    fill_integers<<<1024, 256>>>(b_.get(), b_size_ * sets, 1'000'000'007);
    fill_scales<<<256, 256>>>(a_scales_.get(), p.m * segments);
    fill_scales<<<256, 256>>>(b_scales_.get(), b_rows * segments);
    check(cudaMemset(out_.get(), 0, static_cast<std::size_t>(out_size_ * sets) * 4));
    product_.a = {nullptr, p.k, a_scales_.get(), segments_first ? 1 : segments, segments_first ? p.m : 1};
    product_.b = {nullptr, p.k, b_scales_.get(), segments_first ? 1 : segments, segments_first ? b_rows : 1};
    product_.out_row_stride = p.n;
  }

  Int8Product operator[](int set) const {
    Int8Product p = product_;
    p.a.values = a_.get() + set * a_size_;
    p.b.values = b_.get() + set * b_size_;
    p.out = out_.get() + set * out_size_;
    return p;
  }

 private:
  Int8Product product_;

 public:
  const int sets;

 private:
  std::int64_t a_size_, b_size_, out_size_;
  Array<std::int8_t> a_, b_;
  Array<float> out_, a_scales_, b_scales_;
};

double tera(const Named& p, double us) {
  return 2e-6 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k) / us;
}

double bf16_us(const Named& p, const Clock& clock) {
  const Bf16Product product(p.m, p.n, p.k, p.result != Int8Result::kBf16);
  const std::int64_t a_size = p.m * p.k;
  const std::int64_t b_size = p.n * p.k;
  const std::int64_t out_size = p.m * p.n;
  const int sets = static_cast<int>(std::clamp<std::int64_t>(kColdBytes / (2 * (a_size + b_size)) + 1, 2, kMaxSets));
  const Array<std::uint16_t> a(a_size * sets), b(b_size * sets);
  const Array<float> out(out_size * sets);
  fill_bf16<<<1024, 256>>>(a.get(), a_size * sets, 1);
  fill_bf16<<<1024, 256>>>(b.get(), b_size * sets, 1'000'000'007);
  return clock.microseconds(
      sets, [&](int s) { product.run(a.get() + s * a_size, b.get() + s * b_size, out.get() + s * out_size); });
}

Int8Product shape_of(const Named& named, std::int64_t segment) {
  return {.m = named.m, .n = named.n, .k = named.k, .segment = segment, .result = named.result};
}

void print_products(const Options& options, const Clock& clock, std::int64_t multiprocessors) {
  std::printf("| product | [m, k] x [k, n] | BF16, TFLOP/s |");
  for (const std::int64_t segment : kSegments) {
    std::printf(" %s, TOP/s | ratio |", segment == 0 ? "row" : std::to_string(segment).c_str());
  }
  std::printf(" tiles, row and segments |\n");
  for (const Named& named : kProducts) {
    if (std::string(named.name).find(options.only) == std::string::npos) continue;
    const double base = bf16_us(named, clock);
    std::printf("| %s | [%lld, %lld] x [%lld, %lld] | %.0f |", named.name, static_cast<long long>(named.m),
                static_cast<long long>(named.k), static_cast<long long>(named.k), static_cast<long long>(named.n),
                tera(named, base));
    for (const std::int64_t segment : kSegments) {
      const Int8Product shape = shape_of(named, segment);
      const Int8Sets sets(shape, named.n, named.m, segments_of(shape, named.k), options.segments_first);
      const double us = clock.microseconds(sets.sets, [&](int s) { cuda::int8_product(sets[s], nullptr); });
      std::printf(" %.0f | %.2f |", tera(named, us), base / us);
      std::fflush(stdout);
    }
    std::printf(" %s; %s |\n", describe(cuda::int8_launch(shape_of(named, 0), multiprocessors)).c_str(),
                describe(cuda::int8_launch(shape_of(named, 512), multiprocessors)).c_str());
  }
}

void print_launches(const Options& options, const Clock& clock) {
  for (const Named& named : kProducts) {
    if (std::string(named.name).find(options.only) == std::string::npos) continue;
    for (const std::int64_t segment : {0, 512, 128}) {
      const Int8Product shape = shape_of(named, segment);
      const Int8Sets sets(shape, named.n, named.m, segments_of(shape, named.k), options.segments_first);
      for (const cuda::Int8Launch& launch : cuda::int8_launches(shape)) {
        const double us = clock.microseconds(
            sets.sets, [&](int s) { cuda::int8_product(sets[s], cuda::Int8Kernel::kWgmma, launch, nullptr); });
        std::printf("%-12s segments %4lld  %-26s %6.0f TOP/s\n", named.name, static_cast<long long>(segment),
                    describe(launch).c_str(), tera(named, us));
        std::fflush(stdout);
      }
    }
  }
}

struct Experts {
  std::int64_t count, rows, width, depth;
};

// Rows of each expert's matrix as equal as they can be; along the depth every expert's end is padded to 16.
void print_grouped(const Options& options, const Clock& clock, const Experts& e) {
  std::vector<std::int32_t> rows{0};
  std::vector<std::int32_t> padded{0};
  for (std::int64_t g = 0; g < e.count; ++g) {
    rows.push_back(static_cast<std::int32_t>(e.rows * (g + 1) / e.count));
    padded.push_back(padded.back() + (rows.back() - rows[static_cast<std::size_t>(g)] + 15) / 16 * 16);
  }
  const Array<std::int32_t> offsets(e.count + 1), padded_offsets(e.count + 1);
  const std::size_t bytes = rows.size() * sizeof rows[0];
  check(cudaMemcpy(offsets.get(), rows.data(), bytes, cudaMemcpyHostToDevice));
  check(cudaMemcpy(padded_offsets.get(), padded.data(), bytes, cudaMemcpyHostToDevice));
  struct Way {
    const char* name;
    Int8Product product;
    std::int64_t b_rows, out_rows;
  };
  Int8Product by_rows{.m = e.rows, .n = e.width, .k = e.depth, .grouped = Int8Groups::kRows, .groups = e.count};
  by_rows.offsets = offsets.get();
  Int8Product back = by_rows;
  std::swap(back.n, back.k);
  Int8Product by_depth{.m = e.width,
                       .n = e.depth,
                       .k = padded.back(),
                       .result = Int8Result::kF32,
                       .grouped = Int8Groups::kDepth,
                       .groups = e.count};
  by_depth.offsets = padded_offsets.get();
  Int8Product narrow = by_depth;
  narrow.result = Int8Result::kBf16;
  const double operations = 2e-6 * static_cast<double>(e.rows) * static_cast<double>(e.width * e.depth);
  for (const Way& way :
       {Way{"fprop", by_rows, e.count * e.width, e.rows}, Way{"dgrad", back, e.count * e.depth, e.rows},
        Way{"wgrad in FP32", by_depth, e.depth, e.count * e.width},
        Way{"wgrad in BF16", narrow, e.depth, e.count * e.width}}) {
    std::printf("| %lld experts, %lld rows, [%lld, %lld], %s |", static_cast<long long>(e.count),
                static_cast<long long>(e.rows), static_cast<long long>(e.width), static_cast<long long>(e.depth),
                way.name);
    for (const std::int64_t segment : kSegments) {
      Int8Product p = way.product;
      p.segment = segment;
      std::int64_t segments = segments_of(p, p.k);
      if (p.grouped == Int8Groups::kDepth) {
        segments = 0;
        for (std::size_t g = 0; g + 1 < padded.size(); ++g) segments += segments_of(p, padded[g + 1] - padded[g]);
      }
      const Int8Sets sets(p, way.b_rows, way.out_rows, segments, options.segments_first);
      if (!options.launches || (segment != 0 && segment != 512)) {
        const double us = clock.microseconds(sets.sets, [&](int s) { cuda::int8_product(sets[s], nullptr); });
        std::printf(" %.0f |", operations / us);
      } else {
        for (const cuda::Int8Launch& launch : cuda::int8_launches(p)) {
          const double us = clock.microseconds(
              sets.sets, [&](int s) { cuda::int8_product(sets[s], cuda::Int8Kernel::kWgmma, launch, nullptr); });
          std::printf(" %s %.0f,", describe(launch).c_str(), operations / us);
        }
        std::printf(" |");
      }
      std::fflush(stdout);
    }
    std::printf("\n");
  }
}

Options read(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--quick") {
      options.quick = true;
    } else if (word == "--launches") {
      options.launches = true;
    } else if (word == "--segments-first") {
      options.segments_first = true;
    } else if (word == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      throw InputError("int8_products: unknown option '" + word +
                       "', expected --quick, --launches, --segments-first or --only NAME");
    }
  }
  return options;
}

void run(const Options& options) {
  const cuda::DeviceStatus status = cuda::int8_status();
  if (!status.usable) throw RunError(status.sentence);
  int device = 0;
  int multiprocessors = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  std::printf("%s, %d multiprocessors, %s\n", status.sentence.c_str(), multiprocessors,
              cuda::has_wgmma() ? "wgmma" : "mma");
  const Clock clock(options);
  if (options.launches) {
    print_launches(options, clock);
  } else {
    print_products(options, clock, multiprocessors);
  }
  if (std::string("grouped").find(options.only) != 0 && !options.only.empty()) return;
  std::printf("| grouped, TOP/s | row | 1024 | 512 | 256 | 128 |\n");
  print_grouped(options, clock, {64, 65984, 2048, 2048});
  print_grouped(options, clock, {128, 65984, 1024, 2048});
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(read(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "int8_products: %s\n", error.what());
    return 1;
  }
  return 0;
}
