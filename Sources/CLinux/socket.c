#define _GNU_SOURCE
#include "CLinux.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

int clinux_unix_socket(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }

static int fill_address(struct sockaddr_un *address, const char *path) {
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return 0;
}

int clinux_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    if (fill_address(&address, path) < 0) return -1;
    return connect(fd, (const struct sockaddr *)&address, sizeof address);
}

int clinux_unix_bind(int fd, const char *path) {
    struct sockaddr_un address;
    if (fill_address(&address, path) < 0) return -1;
    return bind(fd, (const struct sockaddr *)&address, sizeof address);
}

int clinux_unix_peer(int fd, pid_t *pid, uid_t *uid, gid_t *gid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -1;
    *pid = credentials.pid;
    *uid = credentials.uid;
    *gid = credentials.gid;
    return 0;
}

static int option_is(int fd, int option, int expected) {
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == expected;
}

int clinux_is_unix_listener(int fd) {
    return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_STREAM) && option_is(fd, SO_ACCEPTCONN, 1);
}

int clinux_set_blocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

ssize_t clinux_send(int fd, const void *bytes, size_t length, const int *descriptors, int count) {
    struct clinux_message message;
    clinux_message_to_send(&message, bytes, length, descriptors, count);
    return sendmsg(fd, &message.header, MSG_NOSIGNAL);
}

ssize_t clinux_receive(int fd, void *bytes, size_t length, int *descriptors, int *count) {
    struct clinux_message message;
    memset(&message, 0, sizeof message);
    message.part = (struct iovec){.iov_base = bytes, .iov_len = length};
    message.header.msg_iov = &message.part;
    message.header.msg_iovlen = 1;
    message.header.msg_control = message.control.bytes;
    message.header.msg_controllen = sizeof message.control.bytes;
    *count = 0;
    ssize_t received = recvmsg(fd, &message.header, MSG_CMSG_CLOEXEC);
    if (received < 0) return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message.header); c; c = CMSG_NXTHDR(&message.header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        // The control buffer has room for no more than CLINUX_MESSAGE_DESCRIPTORS, rounded up to its alignment.
        int found = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < found; i++) {
            int one;
            memcpy(&one, CMSG_DATA(c) + (size_t)i * sizeof one, sizeof one);
            if (*count < CLINUX_MESSAGE_DESCRIPTORS) descriptors[(*count)++] = one;
            else close(one), message.header.msg_flags |= MSG_CTRUNC;
        }
    }
    if (message.header.msg_flags & MSG_CTRUNC) {
        while (*count > 0) close(descriptors[--*count]);
        errno = EMSGSIZE;
        return -1;
    }
    return received;
}
