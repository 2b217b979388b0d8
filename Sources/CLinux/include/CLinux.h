#pragma once

// The kernel's calls that Swift's Glibc module does not show, or shows only as variadic functions or macros.
// No policy here: each function is one call, and answers as the call does (-1 and errno, unless said).

#include <stdint.h>
#include <sys/types.h>

/// The symbol of an errno ("ENOSPC"), or NULL for an unknown one.
const char *clinux_errno_name(int code);
/// What strerror says of an errno, as a static string, or NULL for an unknown one.
const char *clinux_errno_text(int code);

/// memfd_create, close-on-exec and sealable; not executable where the kernel can promise that (6.3 and later).
int clinux_memfd_create(const char *name);
/// Adds seals against shrinking, growing and further seals; with `future_write` also against new writers.
int clinux_seal(int fd, int future_write);
/// The seals of a memfd, as F_SEAL_* bits.
int clinux_seals(int fd);
/// Gives the pages of a range back and leaves zeros.
int clinux_punch_hole(int fd, off_t offset, off_t length);
/// Copies memory without bringing the target into the caches: for what another core reads later, if at all.
void clinux_copy_past_caches(void *restrict target, const void *restrict source, size_t length);
/// Makes the pages of a range of a memfd, which is mapped at `address`, present and writable.
int clinux_populate(int fd, off_t offset, void *address, size_t length);
/// 1 if no other open file of this inode exists, and so no mapping through one.
int clinux_is_exclusive(int fd);
/// Where the next byte is that has memory, from `offset` on; -1 if there is none.
off_t clinux_next_data(int fd, off_t offset);
/// Where the memory that `offset` has ends.
off_t clinux_next_hole(int fd, off_t offset);
/// open(2) without a mode.
int clinux_open(const char *path, int flags);
/// A duplicate at the lowest free number, close-on-exec or not.
int clinux_duplicate(int fd, int close_on_exec);

/// The most descriptors that one message carries.
#define CLINUX_MESSAGE_DESCRIPTORS 2

/// socket(AF_UNIX, SOCK_STREAM), close-on-exec.
int clinux_unix_socket(void);
/// connect and bind to a path; ENAMETOOLONG where it does not fit into an address (107 bytes).
int clinux_unix_connect(int fd, const char *path);
int clinux_unix_bind(int fd, const char *path);
/// The process at the other end, as of when it connected.
int clinux_unix_peer(int fd, pid_t *pid, uid_t *uid, gid_t *gid);
/// 1 if `fd` is a listening Unix stream socket, 0 if it is something else. Never fails.
int clinux_is_unix_listener(int fd);
/// One datagram from a socket made for it, to a path or, where that begins with '@', to an abstract name, with `count` descriptors
/// (0 to CLINUX_MESSAGE_DESCRIPTORS). Other than its neighbours this is four calls; the error is that of the first that fails.
ssize_t clinux_datagram_send(
    const char *path, const void *bytes, size_t length, const int *descriptors, int count);
/// Clears O_NONBLOCK.
int clinux_set_blocking(int fd);
/// sendmsg of one part, with `count` descriptors (0 to CLINUX_MESSAGE_DESCRIPTORS); no SIGPIPE.
ssize_t clinux_send(int fd, const void *bytes, size_t length, const int *descriptors, int count);
/// recvmsg into one part, with room for CLINUX_MESSAGE_DESCRIPTORS descriptors, which become close-on-exec. Stores in
/// `*count` how many came. More than fit are closed by the kernel, and answer EMSGSIZE here after the others are closed too.
ssize_t clinux_receive(int fd, void *bytes, size_t length, int *descriptors, int *count);

/// Names the calling thread, cut to 15 bytes.
void clinux_name_thread(const char *name);
/// Adds `nice` to the calling thread's niceness (0 to 19).
int clinux_nice_thread(int nice);
/// Cores that the calling thread may run on; what a container is pinned to, not what the machine has.
int clinux_core_count(void);
/// An eventfd, close-on-exec and blocking.
int clinux_eventfd(void);
/// Blocks `count` signals in the calling thread, and in those it starts from then on, and answers a descriptor to read them from.
int clinux_signalfd(const int *signals, int count);
/// Bytes of what one read of a signalfd gives, and the signal's number in it.
size_t clinux_signal_byte_count(void);
int clinux_signal_number(const void *bytes);
/// The soft limit of locked memory in bytes, UINT64_MAX for none.
uint64_t clinux_memlock_limit(void);
/// Opens `path` below `directory`, as clinux_open_how says, and waits for it.
int clinux_open_below(int directory, const char *path, int kind, int direct);

// ---- The ring: io_uring through liburing. ----
//
// One thread queues, submits and reaps, from `clinux_ring_enable` on. Every function that queues takes the caller's
// `user_data`, which comes back with the completion, and needs room: check `clinux_ring_room` first. Memory that is handed
// over belongs to the kernel until the completion.

struct clinux_ring;

struct clinux_completion {
    uint64_t user_data;
    /// What the call would have returned, or minus its errno.
    int32_t result;
};

/// How the ring delivers completions: what the kernel allowed, the best first.
enum { CLINUX_RING_DEFERRED = 2, CLINUX_RING_COOPERATIVE = 1, CLINUX_RING_PLAIN = 0 };

/// A ring that is not enabled yet, in `best_mode` or, where the kernel does not know it, in the next that it knows. NULL and a
/// positive errno in `*error` where the kernel refuses.
struct clinux_ring *clinux_ring_create(unsigned entries, unsigned completions, int best_mode, int *error);
void clinux_ring_free(struct clinux_ring *ring);
/// One of the CLINUX_RING_ modes.
int clinux_ring_mode(const struct clinux_ring *ring);
/// The name of the first operation needed here that the kernel lacks, or NULL.
const char *clinux_ring_missing(struct clinux_ring *ring);
/// Binds the ring to the calling thread. 0 or minus an errno.
int clinux_ring_enable(struct clinux_ring *ring);
/// How many operations may be queued now.
unsigned clinux_ring_room(const struct clinux_ring *ring);
/// Hands what is queued to the kernel, and waits for `wait_for` completions. How many were handed over, or minus an errno.
int clinux_ring_submit(struct clinux_ring *ring, unsigned wait_for);
/// Takes up to `capacity` completions; how many there were.
unsigned clinux_ring_reap(struct clinux_ring *ring, struct clinux_completion *completions, unsigned capacity);

void clinux_ring_accept(struct clinux_ring *ring, uint64_t user_data, int listener);
void clinux_ring_receive(struct clinux_ring *ring, uint64_t user_data, int fd, void *bytes, size_t length);
void clinux_ring_read(struct clinux_ring *ring, uint64_t user_data, int fd, void *bytes, unsigned length, uint64_t offset);
void clinux_ring_write(
    struct clinux_ring *ring, uint64_t user_data, int fd, const void *bytes, unsigned length, uint64_t offset);
void clinux_ring_sync(struct clinux_ring *ring, uint64_t user_data, int fd);
void clinux_ring_link(
    struct clinux_ring *ring, uint64_t user_data, int from, const char *path, int to, const char *new_path, int follow);
void clinux_ring_rename(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, const char *new_path);
void clinux_ring_unlink(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, int is_directory);
void clinux_ring_make_directory(struct clinux_ring *ring, uint64_t user_data, int directory, const char *path);
void clinux_ring_cancel(struct clinux_ring *ring, uint64_t user_data, uint64_t target);

/// Nanoseconds are below a second; as the kernel's own structure.
struct clinux_timespec {
    int64_t seconds;
    int64_t nanoseconds;
};
void clinux_ring_timeout(struct clinux_ring *ring, uint64_t user_data, const struct clinux_timespec *duration);

/// What to open, and how: never through a symbolic link, never outside the directory, always close-on-exec, mode 0600.
enum {
    CLINUX_OPEN_DIRECTORY,
    CLINUX_OPEN_TO_READ,
    /// A new file in the directory `path`, without a name.
    CLINUX_OPEN_UNNAMED,
    /// A new file at `path`; EEXIST if there is one.
    CLINUX_OPEN_NEW,
};
/// As the kernel's struct open_how.
struct clinux_open_how {
    uint64_t flags, mode, resolve;
};
/// - `direct`: with O_DIRECT.
void clinux_open_how_fill(struct clinux_open_how *how, int kind, int direct);
void clinux_ring_open(
    struct clinux_ring *ring, uint64_t user_data, int directory, const char *path, const struct clinux_open_how *how);

/// A message on its way out: the bytes are copied into it, the descriptors are not duplicated.
struct clinux_message;
/// NULL where memory ends.
struct clinux_message *clinux_message_create(const void *bytes, size_t length, const int *descriptors, int count);
void clinux_message_free(struct clinux_message *message);
/// Takes `sent` bytes off the front, and the descriptors, which went with the first of them. How many bytes are left.
size_t clinux_message_advance(struct clinux_message *message, size_t sent);
void clinux_ring_send(struct clinux_ring *ring, uint64_t user_data, int fd, const struct clinux_message *message);
