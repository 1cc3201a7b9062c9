// Linked into every program of a build with UFP4_SANITIZE, so that no environment variable has to be set: torch's
// libraries and its OpenMP are not built with sanitizers.

#ifdef __SANITIZE_THREAD__
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>
#endif

// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers and the compiler look for these names.
extern "C" {
const char* __ubsan_default_options() { return "print_stacktrace=1"; }

// More memory than there is, for which a test asks, is an error that torch reports, and not the program's end.
const char* __asan_default_options() { return "allocator_may_return_null=1"; }
const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

#ifdef __SANITIZE_THREAD__
// oneDNN, within torch, orders its caches of primitives by atomics that the sanitizer cannot see.
const char* __tsan_default_suppressions() { return "race:dnnl::impl::\n"; }

namespace {
// What a parallel region of OpenMP hands to its threads and back.
struct Region {
  void (*body)(void*);
  void* data;
  char begin, end;  // their addresses are what the sanitizer orders by
};

void run_region(void* argument) {
  auto* region = static_cast<Region*>(argument);
  __tsan_acquire(&region->begin);
  region->body(region->data);
  __tsan_release(&region->end);
}
}  // namespace

// ThreadSanitizer does not see how libgomp starts the threads of a region and waits for them. This stands before
// libgomp's function of the same name, for torch too, and says so: races inside a region stay visible.
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto libgomps = reinterpret_cast<Parallel>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  Region region{body, data, 0, 0};
  __tsan_release(&region.begin);
  libgomps(run_region, &region, threads, flags);
  __tsan_acquire(&region.end);
}
#endif
}
// NOLINTEND(bugprone-reserved-identifier)
