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
/// One datagram from a socket made for it, to a path or, where that begins with '@', to an abstract name. Other than its
/// neighbours this is four calls; the error is that of the first that fails.
ssize_t clinux_datagram_send(const char *path, const void *bytes, size_t length);
/// Clears O_NONBLOCK.
int clinux_set_blocking(int fd);
/// sendmsg of one part, with `count` descriptors (0 to CLINUX_MESSAGE_DESCRIPTORS); no SIGPIPE.
ssize_t clinux_send(int fd, const void *bytes, size_t length, const int *descriptors, int count);
/// recvmsg into one part, with room for CLINUX_MESSAGE_DESCRIPTORS descriptors, which become close-on-exec. Stores in
/// `*count` how many came. More than fit are closed by the kernel, and answer EMSGSIZE here after the others are closed too.
ssize_t clinux_receive(int fd, void *bytes, size_t length, int *descriptors, int *count);
