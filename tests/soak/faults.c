// Loaded before the C library (LD_PRELOAD): counts the calls that change files under one folder, and at a chosen one
// kills the process or lets the call fail. For tests alone; the environment is the only way to tell it anything.
//
//   SOAK_FOLDER   the folder, without links in its path
//   SOAK_CALL     at which call, from 1; 0: only count
//   SOAK_ACTION   kill: before the call; tear: after half of a write; nospace: from this call on as a full disk;
//                 error: this call alone fails with EIO
//   SOAK_COUNT    a file outside the folder for the number of calls, written at the end
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;
static const char* folder;
static long chosen;
static enum { kCount, kKill, kTear, kNoSpace, kError } action;

__attribute__((constructor)) static void begin(void) {
  folder = getenv("SOAK_FOLDER");
  const char* call = getenv("SOAK_CALL");
  const char* what = getenv("SOAK_ACTION");
  chosen = call ? atol(call) : 0;
  if (!what || chosen == 0) return;
  if (!strcmp(what, "kill")) action = kKill;
  if (!strcmp(what, "tear")) action = kTear;
  if (!strcmp(what, "nospace")) action = kNoSpace;
  if (!strcmp(what, "error")) action = kError;
}

__attribute__((destructor)) static void end(void) {
  const char* path = getenv("SOAK_COUNT");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld\n", atomic_load(&calls));
  fclose(file);
}

static int under(const char* path) {
  const size_t length = folder ? strlen(folder) : 0;
  return length > 0 && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int path_counts(int at, const char* path) {
  char name[8192];
  if (path[0] == '/') return under(path);
  char link[64];
  if (at == AT_FDCWD) {
    if (!getcwd(name, sizeof name)) return 0;
    return under(name);
  }
  snprintf(link, sizeof link, "/proc/self/fd/%d", at);
  const ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 0) return 0;
  name[length] = '\0';
  return under(name);
}

static int file_counts(int descriptor) {
  char link[64];
  char name[8192];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 0) return 0;
  name[length] = '\0';
  return under(name);
}

// Counts a call. Whether it takes space decides what a full disk does to it. 0: go on; else the error it fails with.
// Sets *tear where only half of a write is to be done.
static int fate(int takes_space, int* tear) {
  const long number = atomic_fetch_add(&calls, 1) + 1;
  if (action == kNoSpace && number >= chosen && takes_space) return ENOSPC;
  if (number != chosen) return 0;
  if (action == kError) return EIO;
  if (action == kTear && tear) {
    *tear = 1;
    return 0;
  }
  if (action == kKill || action == kTear) kill(getpid(), SIGKILL);
  return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAIL_IF(counted, takes_space)          \
  if (counted) {                               \
    const int failed = fate(takes_space, NULL); \
    if (failed) {                              \
      errno = failed;                          \
      return -1;                               \
    }                                          \
  }

static int opens_for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define OPEN(name)                                                     \
  int name(const char* path, int flags, ...) {                         \
    mode_t mode = 0;                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                             \
      va_list more;                                                    \
      va_start(more, flags);                                           \
      mode = va_arg(more, mode_t);                                     \
      va_end(more);                                                    \
    }                                                                  \
    FAIL_IF(opens_for_writing(flags) && path_counts(AT_FDCWD, path), flags & O_CREAT) \
    return REAL(name)(path, flags, mode);                              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                   \
  int name(int at, const char* path, int flags, ...) {                 \
    mode_t mode = 0;                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                             \
      va_list more;                                                    \
      va_start(more, flags);                                           \
      mode = va_arg(more, mode_t);                                     \
      va_end(more);                                                    \
    }                                                                  \
    FAIL_IF(opens_for_writing(flags) && path_counts(at, path), flags & O_CREAT) \
    return REAL(name)(at, path, flags, mode);                          \
  }
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char* path, mode_t mode) {
  FAIL_IF(path_counts(AT_FDCWD, path), 1)
  return REAL(mkdir)(path, mode);
}
int rename(const char* from, const char* to) {
  FAIL_IF(path_counts(AT_FDCWD, to), 0)
  return REAL(rename)(from, to);
}
int unlink(const char* path) {
  FAIL_IF(path_counts(AT_FDCWD, path), 0)
  return REAL(unlink)(path);
}
int unlinkat(int at, const char* path, int flags) {
  FAIL_IF(path_counts(at, path), 0)
  return REAL(unlinkat)(at, path, flags);
}
int rmdir(const char* path) {
  FAIL_IF(path_counts(AT_FDCWD, path), 0)
  return REAL(rmdir)(path);
}
int remove(const char* path) {
  FAIL_IF(path_counts(AT_FDCWD, path), 0)
  return REAL(remove)(path);
}

ssize_t write(int descriptor, const void* bytes, size_t size) {
  int tear = 0;
  if (file_counts(descriptor)) {
    const int failed = fate(1, &tear);
    if (failed) {
      errno = failed;
      return -1;
    }
  }
  const ssize_t written = REAL(write)(descriptor, bytes, tear ? size / 2 : size);
  if (tear) kill(getpid(), SIGKILL);
  return written;
}

#define PWRITE(name, offset_type)                                                            \
  ssize_t name(int descriptor, const void* bytes, size_t size, offset_type offset) {         \
    int tear = 0;                                                                            \
    if (file_counts(descriptor)) {                                                           \
      const int failed = fate(1, &tear);                                                     \
      if (failed) {                                                                          \
        errno = failed;                                                                      \
        return -1;                                                                           \
      }                                                                                      \
    }                                                                                        \
    const ssize_t written = REAL(name)(descriptor, bytes, tear ? size / 2 : size, offset);   \
    if (tear) kill(getpid(), SIGKILL);                                                       \
    return written;                                                                          \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int ftruncate(int descriptor, off_t size) {
  FAIL_IF(file_counts(descriptor), 0)
  return REAL(ftruncate)(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) {
  FAIL_IF(file_counts(descriptor), 0)
  return REAL(ftruncate64)(descriptor, size);
}
int fallocate(int descriptor, int mode, off_t offset, off_t size) {
  FAIL_IF(file_counts(descriptor), 1)
  return REAL(fallocate)(descriptor, mode, offset, size);
}
int fallocate64(int descriptor, int mode, off64_t offset, off64_t size) {
  FAIL_IF(file_counts(descriptor), 1)
  return REAL(fallocate64)(descriptor, mode, offset, size);
}
int fsync(int descriptor) {
  FAIL_IF(file_counts(descriptor), 0)
  return REAL(fsync)(descriptor);
}
int fdatasync(int descriptor) {
  FAIL_IF(file_counts(descriptor), 0)
  return REAL(fdatasync)(descriptor);
}
