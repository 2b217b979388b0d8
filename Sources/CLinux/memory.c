#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

const char *clinux_errno_name(int code) { return strerrorname_np(code); }

const char *clinux_errno_text(int code) { return strerrordesc_np(code); }

int clinux_memfd_create(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    // Before Linux 6.3 the flag is unknown, and unknown flags are EINVAL.
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int clinux_seal(int fd, int future_write) {
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (future_write) seals |= F_SEAL_FUTURE_WRITE;
    return fcntl(fd, F_ADD_SEALS, seals);
}

int clinux_seals(int fd) { return fcntl(fd, F_GET_SEALS); }

int clinux_punch_hole(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

#if defined(__x86_64__)
// Every x86-64 has these stores; wider ones are no faster where memory is the limit.
void clinux_copy_past_caches(void *restrict target, const void *restrict source, size_t length) {
    char *to = target;
    const char *from = source;
    size_t lead = -(uintptr_t)to & 15;
    if (length < 64 + lead) {
        memcpy(to, from, length);
        return;
    }
    memcpy(to, from, lead);
    to += lead, from += lead, length -= lead;
    for (; length >= 64; to += 64, from += 64, length -= 64) {
        _mm_prefetch(from + 1024, _MM_HINT_NTA);
        for (int i = 0; i < 64; i += 16) _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
    }
    memcpy(to, from, length);
    // Such stores are not ordered like others: whoever is told of them next must find them.
    _mm_sfence();
}
#else
void clinux_copy_past_caches(void *restrict target, const void *restrict source, size_t length) { memcpy(target, source, length); }
#endif

int clinux_populate(int fd, off_t offset, void *address, size_t length) {
    // Taking the pages in one call and mapping them in another costs less than letting each fault do both.
    fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length);
    // MADV_POPULATE_WRITE, since Linux 5.14; older headers lack it.
    return madvise(address, length, 23);
}

int clinux_is_exclusive(int fd) {
    if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return 0;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 1;
}

off_t clinux_next_data(int fd, off_t offset) { return lseek(fd, offset, SEEK_DATA); }

off_t clinux_next_hole(int fd, off_t offset) { return lseek(fd, offset, SEEK_HOLE); }

int clinux_open(const char *path, int flags) { return open(path, flags); }

int clinux_duplicate(int fd, int close_on_exec) {
    return fcntl(fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
}
