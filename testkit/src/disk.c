/* A disk that fails: put in front of the C library by LD_PRELOAD, for any user.
 *
 * DISK_FAULT is "OP:END:NTH:WHAT". OP is open, write, sync, rename or renamed (after it), END how the path ends, NTH which
 * passing counts (0: each), WHAT is kill, EIO or ENOSPC. A write that kills leaves half of its bytes.
 * With DISK_FAULT_WHILE=FILE the fault is there while that file is.
 */
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
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char op[16], end[128], what[16];
static int nth, ready;
static const char *only_while;
static atomic_int passed;

__attribute__((constructor)) static void read_fault(void) {
  const char *fault = getenv("DISK_FAULT");
  ready = fault && sscanf(fault, "%15[^:]:%127[^:]:%d:%15s", op, end, &nth, what) == 4;
  only_while = getenv("DISK_FAULT_WHILE");
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether this call is the one. */
static int is_now(const char *this_op, const char *path) {
  if (!ready || !path || strcmp(this_op, op)) return 0;
  size_t have = strlen(path), want = strlen(end);
  if (have < want || strcmp(path + have - want, end)) return 0;
  if (only_while && REAL(access)(only_while, F_OK)) return 0;
  int count = atomic_fetch_add(&passed, 1) + 1;
  return nth == 0 || count == nth;
}

static int is_now_fd(const char *this_op, int fd) {
  char link[32], path[4096];
  if (!ready || strcmp(this_op, op)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_now(this_op, path);
}

/* The fault itself; answers -1 unless it kills. */
static int fails(void) {
  if (!strcmp(what, "kill")) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = strcmp(what, "EIO") ? ENOSPC : EIO;
  return -1;
}

#define WRITES(call_half, call)                        \
  if (is_now_fd("write", fd)) {                        \
    if (!strcmp(what, "kill")) (void)!(call_half);     \
    return fails();                                    \
  }                                                    \
  return call;

ssize_t write(int fd, const void *b, size_t n) { WRITES(REAL(write)(fd, b, n / 2), REAL(write)(fd, b, n)) }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) {
  WRITES(REAL(pwrite)(fd, b, n / 2, o), REAL(pwrite)(fd, b, n, o))
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
  WRITES(REAL(pwrite64)(fd, b, n / 2, o), REAL(pwrite64)(fd, b, n, o))
}

int fsync(int fd) { return is_now_fd("sync", fd) ? fails() : REAL(fsync)(fd); }
int fdatasync(int fd) { return is_now_fd("sync", fd) ? fails() : REAL(fdatasync)(fd); }

#define OPENS(name)                                              \
  int name(const char *path, int flags, ...) {                   \
    va_list more;                                                \
    va_start(more, flags);                                       \
    mode_t mode = va_arg(more, mode_t);                          \
    va_end(more);                                                \
    return is_now("open", path) ? fails() : REAL(name)(path, flags, mode); \
  }
OPENS(open)
OPENS(open64)

int rename(const char *from, const char *to) {
  if (is_now("rename", to)) return fails();
  int done = REAL(rename)(from, to);
  return is_now("renamed", to) ? fails() : done;
}
