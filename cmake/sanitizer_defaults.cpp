// Linked into every program of a build with UFP4_SANITIZE: what the sanitizers should leave out, so that no environment
// variable has to be set. torch's wheel, its OpenMP and its BLAS are not built with sanitizers.

// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers look for these names.
extern "C" {
const char* __lsan_default_suppressions() {
  return "leak:libtorch_cpu.so\n"  // registries that live as long as the process, reached through tagged pointers
         "leak:libc10.so\n"
         "leak:libgomp\n";  // thread pools that are never joined
}

const char* __tsan_default_suppressions() {
  // ThreadSanitizer does not see the futex barriers of libgomp, so all that OpenMP threads hand to each other inside
  // torch looks like a race.
  return "race:libgomp\n"
         "called_from_lib:libtorch_cpu.so\n"
         "called_from_lib:libc10.so\n"
         "race:libtorch_cpu.so\n";
}

const char* __ubsan_default_options() { return "print_stacktrace=1"; }
}
// NOLINTEND(bugprone-reserved-identifier)
