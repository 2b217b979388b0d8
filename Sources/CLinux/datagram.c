#include "message.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

ssize_t clinux_datagram_send(
    const char *path, const void *bytes, size_t length, const int *descriptors, int count) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t path_length = strlen(path);
    if (path_length == 0 || path_length >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, path_length);
    if (address.sun_path[0] == '@') address.sun_path[0] = 0;
    // An abstract name is exactly as long as the address says; a path ends at its 0 as well.
    socklen_t address_length = offsetof(struct sockaddr_un, sun_path) + path_length;

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct clinux_message message;
    clinux_message_to_send(&message, bytes, length, descriptors, count);
    message.header.msg_name = &address;
    message.header.msg_namelen = address_length;
    ssize_t sent = sendmsg(fd, &message.header, MSG_NOSIGNAL);
    int code = errno;
    close(fd);
    errno = code;
    return sent;
}
