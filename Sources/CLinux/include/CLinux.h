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
