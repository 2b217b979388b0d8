#define _GNU_SOURCE
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct clinux_ring {
    struct io_uring uring;
    int mode;
};

// Every mode starts disabled, so that the thread that enables the ring, not the one that makes it, becomes its only issuer.
// SUBMIT_ALL: one refused entry must not hold back those behind it. CLAMP: a smaller ring is better than none.
#define COMMON_FLAGS (IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL)

static const unsigned mode_flags[] = {
    [CLINUX_RING_PLAIN] = COMMON_FLAGS,
    // Linux 5.19: completions do not interrupt the thread.
    [CLINUX_RING_COOPERATIVE] = COMMON_FLAGS | IORING_SETUP_COOP_TASKRUN,
    // Linux 6.1: completions are worked off when the thread waits, and at no other time.
    [CLINUX_RING_DEFERRED] = COMMON_FLAGS | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

struct clinux_ring *clinux_ring_create(unsigned entries, unsigned completions, int best_mode, int *error) {
    struct clinux_ring *ring = malloc(sizeof *ring);
    if (!ring) {
        *error = ENOMEM;
        return NULL;
    }
    for (ring->mode = best_mode;; ring->mode--) {
        struct io_uring_params params = {.flags = mode_flags[ring->mode], .cq_entries = completions};
        int result = io_uring_queue_init_params(entries, &ring->uring, &params);
        if (result == 0) return ring;
        // A kernel that does not know a flag says EINVAL; any other answer would be the same without it.
        if (result == -EINVAL && ring->mode > CLINUX_RING_PLAIN) continue;
        *error = -result;
        free(ring);
        return NULL;
    }
}

void clinux_ring_free(struct clinux_ring *ring) {
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

int clinux_ring_mode(const struct clinux_ring *ring) { return ring->mode; }

const char *clinux_ring_missing(struct clinux_ring *ring) {
    static const struct {
        int code;
        const char *name;
    } needed[] = {
        {IORING_OP_ACCEPT, "ACCEPT"},     {IORING_OP_RECV, "RECV"},         {IORING_OP_SENDMSG, "SENDMSG"},
        {IORING_OP_READ, "READ"},         {IORING_OP_WRITE, "WRITE"},       {IORING_OP_FSYNC, "FSYNC"},
        {IORING_OP_OPENAT2, "OPENAT2"},   {IORING_OP_LINKAT, "LINKAT"},     {IORING_OP_RENAMEAT, "RENAMEAT"},
        {IORING_OP_UNLINKAT, "UNLINKAT"}, {IORING_OP_MKDIRAT, "MKDIRAT"},   {IORING_OP_TIMEOUT, "TIMEOUT"},
        {IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL"},
    };
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->uring);
    if (!probe) return "PROBE";
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof needed / sizeof *needed && !missing; i++)
        if (!io_uring_opcode_supported(probe, needed[i].code)) missing = needed[i].name;
    io_uring_free_probe(probe);
    return missing;
}

int clinux_ring_enable(struct clinux_ring *ring) {
    // liburing 2.3 declares io_uring_enable_rings and does not export it.
    return io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

unsigned clinux_ring_room(const struct clinux_ring *ring) { return io_uring_sq_space_left(&ring->uring); }

int clinux_ring_submit(struct clinux_ring *ring, unsigned wait_for) {
    if (wait_for > 0) return io_uring_submit_and_wait(&ring->uring, wait_for);
    // Deferred completions appear only when the kernel is entered for them, be it without waiting.
    return io_uring_submit_and_get_events(&ring->uring);
}

unsigned clinux_ring_reap(struct clinux_ring *ring, struct clinux_completion *completions, unsigned capacity) {
    unsigned head, count = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&ring->uring, head, cqe) {
        if (count == capacity) break;
        completions[count++] = (struct clinux_completion){.user_data = cqe->user_data, .result = cqe->res};
    }
    io_uring_cq_advance(&ring->uring, count);
    return count;
}

// The caller has checked that there is room.
static struct io_uring_sqe *next(struct clinux_ring *ring) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe) abort();
    return sqe;
}

// Last, because preparing an entry clears its user data.
static void tag(struct io_uring_sqe *sqe, uint64_t user_data) { io_uring_sqe_set_data64(sqe, user_data); }

void clinux_ring_accept(struct clinux_ring *ring, uint64_t user_data, int listener) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    tag(sqe, user_data);
}

void clinux_ring_receive(struct clinux_ring *ring, uint64_t user_data, int fd, void *bytes, size_t length) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_recv(sqe, fd, bytes, length, 0);
    tag(sqe, user_data);
}

void clinux_ring_send(struct clinux_ring *ring, uint64_t user_data, int fd, const struct clinux_message *message) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_sendmsg(sqe, fd, &message->header, MSG_NOSIGNAL);
    tag(sqe, user_data);
}

// A transfer of this size pins many pages before it is under way; a kernel thread does that, so that the loop goes on. Smaller
// ones are over sooner than a thread is woken between workers that have the cores.
#define LARGE (1u << 20)

static void prepare_transfer(
    struct clinux_ring *ring, uint64_t user_data, int opcode, int fd, const void *bytes, unsigned length, uint64_t offset) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_rw(opcode, sqe, fd, bytes, length, offset);
    if (length >= LARGE) io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    tag(sqe, user_data);
}

void clinux_ring_read(struct clinux_ring *ring, uint64_t user_data, int fd, void *bytes, unsigned length, uint64_t offset) {
    prepare_transfer(ring, user_data, IORING_OP_READ, fd, bytes, length, offset);
}

void clinux_ring_write(
    struct clinux_ring *ring, uint64_t user_data, int fd, const void *bytes, unsigned length, uint64_t offset) {
    prepare_transfer(ring, user_data, IORING_OP_WRITE, fd, bytes, length, offset);
}

void clinux_ring_sync(struct clinux_ring *ring, uint64_t user_data, int fd) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_fsync(sqe, fd, 0);
    tag(sqe, user_data);
}

void clinux_ring_link(
    struct clinux_ring *ring, uint64_t user_data, int from, const char *path, int to, const char *new_path, int follow) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_linkat(sqe, from, path, to, new_path, follow ? AT_SYMLINK_FOLLOW : 0);
    tag(sqe, user_data);
}

void clinux_ring_rename(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, const char *new_path) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_renameat(sqe, directory, path, directory, new_path, 0);
    tag(sqe, user_data);
}

void clinux_ring_unlink(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, int is_directory) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_unlinkat(sqe, directory, path, is_directory ? AT_REMOVEDIR : 0);
    tag(sqe, user_data);
}

void clinux_ring_make_directory(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_mkdirat(sqe, directory, path, 0700);
    tag(sqe, user_data);
}

void clinux_ring_cancel(struct clinux_ring *ring, uint64_t user_data, uint64_t target) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_cancel64(sqe, target, 0);
    tag(sqe, user_data);
}

_Static_assert(sizeof(struct clinux_timespec) == sizeof(struct __kernel_timespec), "the kernel's timespec");

void clinux_ring_timeout(struct clinux_ring *ring, uint64_t user_data, const struct clinux_timespec *duration) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_timeout(sqe, (struct __kernel_timespec *)duration, 0, 0);
    tag(sqe, user_data);
}

_Static_assert(sizeof(struct clinux_open_how) == sizeof(struct open_how), "the kernel's open_how");

void clinux_open_how_fill(struct clinux_open_how *how, int kind, int direct) {
    static const uint64_t flags[] = {
        [CLINUX_OPEN_DIRECTORY] = O_RDONLY | O_DIRECTORY,
        [CLINUX_OPEN_TO_READ] = O_RDONLY,
        [CLINUX_OPEN_UNNAMED] = O_RDWR | O_TMPFILE,
        [CLINUX_OPEN_NEW] = O_RDWR | O_CREAT | O_EXCL,
    };
    int creates = kind == CLINUX_OPEN_UNNAMED || kind == CLINUX_OPEN_NEW;
    how->flags = flags[kind] | O_CLOEXEC | (direct ? O_DIRECT : 0);
    // openat2 refuses a mode where nothing is created.
    how->mode = creates ? 0600 : 0;
    how->resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
}

void clinux_ring_open(
    struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, const struct clinux_open_how *how) {
    struct io_uring_sqe *sqe = next(ring);
    io_uring_prep_openat2(sqe, directory, path, (struct open_how *)how);
    tag(sqe, user_data);
}

int clinux_open_below(int directory, const char *path, int kind, int direct) {
    struct clinux_open_how how;
    clinux_open_how_fill(&how, kind, direct);
    int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    // A seccomp filter cannot look into the structure, so systemd's RestrictSUIDSGID= answers ENOSYS, as if the call did not
    // exist. At least the last component is still no symbolic link. (The ring's own openat2 passes no filter.)
    if (fd < 0 && errno == ENOSYS) fd = openat(directory, path, how.flags | O_NOFOLLOW, how.mode);
    return fd;
}
