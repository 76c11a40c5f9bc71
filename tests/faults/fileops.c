/* Stands between a program and libc for calls on files below one folder: counts them, kills the process at the
 * k-th, writes them down, or lets them fail. Loaded with LD_PRELOAD; see fileops.py.
 *
 *   FILEOPS_UNDER   the folder, absolute; other files are let through untouched
 *   FILEOPS_TRACE   a file to which each change is appended once it has been made
 *   FILEOPS_FAULT   a file with "ERRNO MILLISECONDS READS": looked at before each call, no fault where it is not
 *                   there. READS is 1 if calls that change nothing fail too.
 *
 * fileops_arm(k) has the process killed at the k-th change from then on: before it is made, or, where it is a
 * write, with half of it made. fileops_count() tells how many there have been.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
#define SIZE (PATH_MAX * 2)

static char under[PATH_MAX];
static size_t under_length;
static const char *fault_path;
static int trace = -1;
static long count, kill_at;

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "fileops: libc has no %s\n", name);
        abort();
    }
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    const char *named = getenv("FILEOPS_UNDER"), *to = getenv("FILEOPS_TRACE");
    if (named)
        snprintf(under, sizeof under, "%s", named);
    under_length = strlen(under);
    fault_path = getenv("FILEOPS_FAULT");
    if (to)
        trace = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void fileops_arm(long at) { count = 0; kill_at = at; }
long fileops_count(void) { return count; }

static int below(const char *path)
{
    return under_length && !strncmp(path, under, under_length) && (!path[under_length] || path[under_length] == '/');
}

static int fd_path(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length < 0 ? 0 : length] = 0;
    return below(out);
}

static int at_path(int dir, const char *path, char *out)
{
    out[0] = 0;
    if (!path)
        return 0;
    if (path[0] == '/') {
        snprintf(out, SIZE, "%s", path);
    } else {
        char folder[PATH_MAX] = "";
        if (dir == AT_FDCWD) {
            if (!getcwd(folder, sizeof folder))
                return 0;
        } else {
            int saved = errno;
            fd_path(dir, folder);
            errno = saved;
        }
        snprintf(out, SIZE, "%s/%s", folder, path);
    }
    return below(out);
}

static long inode(int fd)
{
    struct stat status;
    return syscall(SYS_fstat, fd, &status) ? -1 : (long)status.st_ino;
}

static void note(const void *data, size_t length, const char *format, ...)
{
    if (trace < 0)
        return;
    int saved = errno;
    char line[SIZE * 2 + 128];
    va_list rest;
    va_start(rest, format);
    int size = vsnprintf(line, sizeof line, format, rest);
    va_end(rest);
    struct iovec parts[2] = {{line, size}, {(void *)data, length}};
    if (syscall(SYS_writev, trace, parts, data ? 2 : 1) != size + (ssize_t)(data ? length : 0))
        abort();
    errno = saved;
}

/* The error that a call is to fail with, 0 for none; waits as long as it is to take. */
static int fault(int changes)
{
    if (!fault_path)
        return 0;
    int saved = errno, error = 0, delay = 0, reads = 0;
    char text[64] = "";
    int fd = syscall(SYS_openat, AT_FDCWD, fault_path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (syscall(SYS_read, fd, text, sizeof text - 1) > 0)
            sscanf(text, "%d %d %d", &error, &delay, &reads);
        syscall(SYS_close, fd);
    }
    if (delay) {
        struct timespec wait = {delay / 1000, delay % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
    errno = saved;
    return changes || reads ? error : 0;
}

static int due(void) { return __sync_add_and_fetch(&count, 1) == kill_at; }
static void end(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* Before a change: 1 if it is to fail. */
static int change(void)
{
    int error = fault(1);
    if (error)
        errno = error;
    if (due())
        end();
    return error != 0;
}

static int look(void)
{
    int error = fault(0);
    if (error)
        errno = error;
    return error != 0;
}

/* ---- files ------------------------------------------------------------------------------------- */

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
    char full[SIZE];
    if (!at_path(dir, path, full))
        return syscall(SYS_openat, dir, path, flags, mode);
    int changes = flags & (O_CREAT | O_TRUNC), fresh = 0;
    if (changes ? change() : look())
        return -1;
    if (flags & O_CREAT) {
        struct stat status;
        int saved = errno;
        fresh = syscall(SYS_newfstatat, dir, path, &status, AT_SYMLINK_NOFOLLOW) != 0;
        errno = saved;
    }
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fresh)
        note(NULL, 0, "create\t%s\t%ld\n", full, inode(fd));
    else if (fd >= 0 && (flags & O_TRUNC))
        note(NULL, 0, "truncate\t%ld\t0\n", inode(fd));
    return fd;
}

#define OPEN(name)                                                    \
    int name(const char *path, int flags, ...)                        \
    {                                                                 \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                 \
        return do_open(AT_FDCWD, path, flags, mode);                  \
    }
#define OPENAT(name)                                                  \
    int name(int dir, const char *path, int flags, ...)               \
    {                                                                 \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                 \
        return do_open(dir, path, flags, mode);                       \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static off_t position(int fd)
{
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) {
        struct stat status;
        return syscall(SYS_fstat, fd, &status) ? 0 : status.st_size;
    }
    return syscall(SYS_lseek, fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t length)
{
    char full[PATH_MAX];
    if (!under_length || !fd_path(fd, full)) {
        ssize_t done = syscall(SYS_write, fd, data, length);
        if (fd == 1 && done > 0)
            note(data, done, "said\t%zd\n", done);
        return done;
    }
    int error = fault(1);
    if (error) {
        errno = error;
        return -1;
    }
    if (due()) {
        syscall(SYS_write, fd, data, length / 2);
        end();
    }
    off_t offset = position(fd);
    ssize_t done = syscall(SYS_write, fd, data, length);
    if (done > 0)
        note(data, done, "write\t%ld\t%ld\t%zd\n", inode(fd), (long)offset, done);
    return done;
}

static ssize_t do_write_at(int fd, const void *data, size_t length, off_t offset)
{
    char full[PATH_MAX];
    if (!under_length || !fd_path(fd, full))
        return syscall(SYS_pwrite64, fd, data, length, offset);
    if (change())
        return -1;
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, offset);
    if (done > 0)
        note(data, done, "write\t%ld\t%ld\t%zd\n", inode(fd), (long)offset, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return do_write_at(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    return do_write_at(fd, data, length, offset);
}

static int do_truncate(int fd, off_t length)
{
    char full[PATH_MAX];
    int own = fd_path(fd, full);
    if (own && change())
        return -1;
    int done = syscall(SYS_ftruncate, fd, length);
    if (own && !done)
        note(NULL, 0, "truncate\t%ld\t%ld\n", inode(fd), (long)length);
    return done;
}
int ftruncate(int fd, off_t length) { return do_truncate(fd, length); }
int ftruncate64(int fd, off64_t length) { return do_truncate(fd, length); }

static int do_allocate(int fd, off_t offset, off_t length)
{
    char full[PATH_MAX];
    int own = fd_path(fd, full);
    if (own && change())
        return errno;
    int done = REAL(posix_fallocate)(fd, offset, length);
    if (own && !done)
        note(NULL, 0, "allocate\t%ld\t%ld\n", inode(fd), (long)(offset + length));
    return done;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return do_allocate(fd, offset, length); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return do_allocate(fd, offset, length); }

static int do_sync(int fd, int call)
{
    char full[PATH_MAX];
    int own = fd_path(fd, full);
    if (own && change())
        return -1;
    int done = syscall(call, fd);
    if (own && !done) {
        struct stat status;
        if (!syscall(SYS_fstat, fd, &status) && S_ISDIR(status.st_mode))
            note(NULL, 0, "syncdir\t%s\n", full);
        else
            note(NULL, 0, "fsync\t%ld\n", inode(fd));
    }
    return done;
}
int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* ---- names ------------------------------------------------------------------------------------- */

static int do_mkdir(int dir, const char *path, mode_t mode)
{
    char full[SIZE];
    int own = at_path(dir, path, full);
    if (own && change())
        return -1;
    int done = syscall(SYS_mkdirat, dir, path, mode);
    if (own && !done)
        note(NULL, 0, "mkdir\t%s\n", full);
    return done;
}
int mkdir(const char *path, mode_t mode) { return do_mkdir(AT_FDCWD, path, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { return do_mkdir(dir, path, mode); }

static int do_rename(int from, const char *old, int to, const char *new)
{
    char a[SIZE], b[SIZE];
    int own = at_path(from, old, a) | at_path(to, new, b);
    if (own && change())
        return -1;
    int done = syscall(SYS_renameat, from, old, to, new);
    if (own && !done)
        note(NULL, 0, "rename\t%s\t%s\n", a, b);
    return done;
}
int rename(const char *old, const char *new) { return do_rename(AT_FDCWD, old, AT_FDCWD, new); }
int renameat(int from, const char *old, int to, const char *new) { return do_rename(from, old, to, new); }

static int do_link(int from, const char *old, int to, const char *new, int flags)
{
    char a[SIZE], b[SIZE];
    int own = at_path(from, old, a) | at_path(to, new, b);
    if (own && change())
        return -1;
    int done = syscall(SYS_linkat, from, old, to, new, flags);
    if (own && !done)
        note(NULL, 0, "link\t%s\t%s\n", a, b);
    return done;
}
int link(const char *old, const char *new) { return do_link(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return do_link(from, old, to, new, flags);
}

static int do_unlink(int dir, const char *path, int flags)
{
    char full[SIZE];
    int own = at_path(dir, path, full);
    if (own && change())
        return -1;
    int done = syscall(SYS_unlinkat, dir, path, flags);
    if (own && !done)
        note(NULL, 0, "%s\t%s\n", flags & AT_REMOVEDIR ? "rmdir" : "unlink", full);
    return done;
}
int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int dir, const char *path, int flags) { return do_unlink(dir, path, flags); }

static int do_mode(int own) { return own && change(); }
int chmod(const char *path, mode_t mode)
{
    char full[SIZE];
    return do_mode(at_path(AT_FDCWD, path, full)) ? -1 : (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}
int fchmod(int fd, mode_t mode)
{
    char full[PATH_MAX];
    return do_mode(fd_path(fd, full)) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

/* ---- calls that change nothing ------------------------------------------------------------------ */

ssize_t read(int fd, void *data, size_t length)
{
    char full[PATH_MAX];
    return fault_path && fd_path(fd, full) && look() ? -1 : syscall(SYS_read, fd, data, length);
}
#define PREAD(name)                                                                                   \
    ssize_t name(int fd, void *data, size_t length, off_t offset)                                     \
    {                                                                                                 \
        char full[PATH_MAX];                                                                          \
        return fault_path && fd_path(fd, full) && look() ? -1 : syscall(SYS_pread64, fd, data, length, offset); \
    }
PREAD(pread)
PREAD(pread64)
#define PREADV(name)                                                                                  \
    ssize_t name(int fd, const struct iovec *parts, int number, off_t offset, int flags)              \
    {                                                                                                 \
        char full[PATH_MAX];                                                                          \
        return fault_path && fd_path(fd, full) && look() ? -1 : REAL(name)(fd, parts, number, offset, flags); \
    }
PREADV(preadv2)
PREADV(preadv64v2)
#define STAT(name, type)                                                                              \
    int name(const char *path, struct type *status)                                                   \
    {                                                                                                 \
        char full[SIZE];                                                                              \
        return fault_path && at_path(AT_FDCWD, path, full) && look() ? -1 : REAL(name)(path, status); \
    }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
DIR *opendir(const char *path)
{
    char full[SIZE];
    return fault_path && at_path(AT_FDCWD, path, full) && look() ? NULL : REAL(opendir)(path);
}
